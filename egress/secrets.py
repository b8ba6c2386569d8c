"""What a rule adds to requests, and the watch that it does not come back: a server may show what it was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import h11

from egress.allowlist import Refusal
from egress.fields import fields
from egress.grants import Passage, Refused


@dataclass(frozen=True, slots=True)
class Secret:
    """A header that the proxy adds. The value never goes to the sandbox, and to no host but the rule's."""

    header: bytes
    value: bytes
    bare: bytes
    """Without what stands before it: this is what must not come back."""

    def add_to(self, request: h11.Request) -> h11.Request:
        """Add it; what the sandbox has put under that name goes. The answer is asked for as it is, to be looked at."""
        dropped = {self.header.lower(), b"accept-encoding", b"range", b"request-range", b"if-range"}
        headers = [(name, value) for name, value in request.headers if name not in dropped]
        headers += [(self.header, self.value), (b"accept-encoding", b"identity")]
        return h11.Request(method=request.method, target=request.target, headers=headers)

    def check_head(self, passage: Passage, response: h11.Response) -> None:
        """Look at the head of an answer.

        Raises:
            Refused: the secret is in it, or its body could not be looked at.
        """
        coded = [value for value in fields(response, b"content-encoding") if value.lower() != b"identity"]
        if coded:
            raise self._refused(passage, "the server compresses its answer, which so cannot be looked at")
        if any(self.bare in value for _, value in response.headers) or self.bare in bytes(response.reason):
            raise self._refused(passage, "the server shows the credential")

    async def watched(self, passage: Passage, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass the body on, held back by as much as the secret's beginning could be.

        Raises:
            Refused: the secret is in it; nothing of it has been passed on.
        """
        held = b""
        keep = len(self.bare) - 1
        async for piece in pieces:
            held += piece
            if self.bare in held:
                raise self._refused(passage, "the server shows the credential")
            if len(held) > keep:
                yield held[: len(held) - keep]
                held = held[len(held) - keep :]
        if held:
            yield held

    def _refused(self, passage: Passage, why: str) -> Refused:
        return Refused(Refusal("credential", str(passage.ask), why))


def secret_of(passage: Passage, credentials: Mapping[str, str]) -> Secret | None:
    """Give what the rule of a passage adds, if it does.

    Raises:
        Refused: there is no such credential: nothing is sent then.
    """
    rule = passage.rule
    if rule.credential is None:
        return None
    if rule.credential not in credentials:
        why = f"the credential {rule.credential} of rule {rule.name} is not there"
        raise Refused(Refusal("credential", str(passage.ask), why))
    bare = credentials[rule.credential]
    return Secret(rule.header.encode(), f"{rule.prefix}{bare}".encode(), bare.encode())
