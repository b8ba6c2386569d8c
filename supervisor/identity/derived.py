"""Session ids that follow from something else, and that nobody can work out who has not the host's secret."""

from __future__ import annotations

import base64
import hashlib
import hmac

from supervisor.execution.values import ID_LENGTH, SessionId


class DerivedIds:
    """Derives ids, and signs what goes out and comes back, with a secret of this host."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def derive(self, purpose: str, *parts: str) -> SessionId:
        """Give the one id of these parts; no part may have a NUL. 126 bits of an HMAC-SHA256."""
        return SessionId(self.signature(purpose, *parts)[:ID_LENGTH])

    def signature(self, purpose: str, *parts: str) -> str:
        """Sign text for a purpose; what is signed for one does not hold for another."""
        name = "\0".join((purpose, *parts)).encode("utf-8", "surrogateescape")
        return base64.urlsafe_b64encode(hmac.digest(self._secret, name, hashlib.sha256)).decode().rstrip("=")

    def signed(self, purpose: str, text: str, signature: str) -> bool:
        """Say whether this is the signature, in constant time."""
        given = signature.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(self.signature(purpose, text).encode(), given)
