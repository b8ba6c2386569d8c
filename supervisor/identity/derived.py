"""Session ids that follow from something else, and that nobody can work out who has not the host's secret."""

from __future__ import annotations

import base64
import hashlib
import hmac

from supervisor.execution import ID_LENGTH, SessionId


class DerivedIds:
    """Derives ids with a secret of this host."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def derive(self, purpose: str, *parts: str) -> SessionId:
        """Give the one id of these parts; no part may have a NUL. 126 bits of an HMAC-SHA256."""
        name = "\0".join((purpose, *parts)).encode()
        digest = hmac.digest(self._secret, name, hashlib.sha256)
        return SessionId(base64.urlsafe_b64encode(digest).decode()[:ID_LENGTH])
