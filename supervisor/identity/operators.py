"""Operators: who may ask and change what the server does. They are asked for a credential whatever the settings say.

An operator shows the master key (``admin_key``) or an API key that was made with ``--admin``. The master key opens
/admin, /metrics and the dashboard and nothing else: it lies where people look at the server, so that it should not
also be worth anything to who wants to run code, and what is run should have a tenant that is somebody's.
"""

from __future__ import annotations

from supervisor.errors import Forbidden, Unauthenticated, Unsupported
from supervisor.identity.credentials import Caller, Credentials, HeaderLookup


class Operators:
    """Finds out which operator calls. ``credentials`` hold for operators; ``has_master``: there is a master key."""

    def __init__(self, credentials: Credentials, *, has_master: bool) -> None:
        self.credentials = credentials
        self._has_master = has_master

    def authenticate(self, headers: HeaderLookup, address: str) -> Caller:
        """Give the operator. ``address`` as of :meth:`supervisor.identity.credentials.Credentials.authenticate`.

        Raises:
            Busy: the address is shut out.
            Unauthenticated: no credential was shown, or one that does not hold.
            Forbidden: it holds, and is no operator's.
            Unsupported: as the first, where no master key was set.
        """
        try:
            caller = self.credentials.authenticate(headers, address)
        except Unauthenticated as error:
            if self._has_master:
                raise
            raise Unsupported(
                f"{error.message}; and this server has no master key: set admin_key, the same for all gateways",
                code="no_admin_key",
            ) from None
        if not caller.admin:
            raise Forbidden(
                "this needs the master key (admin_key), or a key of an operator: gaoler keys add NAME --admin",
                field="X-API-Key",
            )
        return caller
