"""What the tests of the backend contract ask of a tier."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from supervisor.execution.values import Tier
from tests.daemon import Answer
from tests.internet import Online
from tests.mcp import Agent, connected

JSON = {"Content-Type": "application/json"}


@dataclass
class Backend:
    """A daemon, and the tier in which all is run there."""

    daemon: Online
    tier: Tier
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    """Of the session that the tests share: a machine for each would take too long to boot."""
    made: list[str] = field(default_factory=list)
    """Ids of sessions, to be ended."""

    def run(self, code: str, lang: str = "py", **fields: Any) -> dict[str, Any]:
        """Run in the sandbox that the tests share. Python is the interpreter that waits there, other programs begin anew."""
        return self.alone(code, lang, runtime_session_hint=self.name, **fields)

    def alone(self, code: str, lang: str = "py", **fields: Any) -> dict[str, Any]:
        """Run in a sandbox of its own."""
        result = self.daemon.execute(code, lang, tier=self.tier, **fields)
        assert result["tier"] == self.tier
        self.made.append(result["session_id"])
        return result

    def shown(self, code: str, lang: str = "py", **fields: Any) -> str:
        """Give what a program in the shared sandbox prints, which has to end well."""
        result = self.run(code, lang, **fields)
        assert (result["code"], result["stderr"]) == (0, ""), result
        return str(result["stdout"])

    def hang_up_when(self, said: str, code: str) -> None:
        """Run Python in the shared sandbox and leave as soon as it has said something."""
        link = self.daemon.connection()
        body = {"lang": "py", "code": code, "tier": self.tier, "runtime_session_hint": self.name}
        headers = JSON | {"X-API-Key": self.daemon.api_key}
        link.request("POST", "/v1/exec?stream=1", json.dumps(body), headers)
        response = link.getresponse()
        text = ""
        while said not in text:
            line = response.readline()
            assert line, "it ended, and had said only " + text
            if line.startswith(b"data: "):
                text += str(json.loads(line.removeprefix(b"data: ")).get("text", ""))
        link.close()

    def content(self, result: dict[str, Any], name: str) -> bytes:
        """Download a result."""
        (file,) = [each for each in result["files"] if each["name"] == name]
        answer = self.daemon.request("GET", f"/v1/download/{file['storage_session_id']}/{file['id']}")
        assert answer.status == 200, answer.body
        assert len(answer.body) == file["size"]
        return answer.body

    def references(self, uploaded: Answer) -> list[dict[str, str]]:
        """Say in a request what has been uploaded."""
        assert uploaded.status == 200, uploaded.body
        made = uploaded.json
        self.made.append(made["storage_session_id"])
        return [
            {"id": file["fileId"], "storage_session_id": made["storage_session_id"], "name": file["filename"]}
            for file in made["files"]
        ]

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[AgentInTier]:
        """A client of the MCP door, in the conversation that the tests share: a second sandbox."""
        async with connected(self.daemon, user=None, conversation=self.name) as agent:
            yield AgentInTier(agent, self)

    def close(self) -> None:
        """End all sessions that there are of it."""
        for session in dict.fromkeys(self.made):
            self.daemon.request("DELETE", f"/v1/sessions/{session}")


@dataclass
class AgentInTier:
    """Calls tools of the MCP door; what runs code does it in the tier."""

    agent: Agent
    backend: Backend

    async def run(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Run something, in the tier."""
        data = (await self.agent.call(tool, tier=self.backend.tier, **arguments)).data
        if "session" in data:
            self.backend.made.append(data["session"])
        return data

    async def use(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call another tool."""
        return (await self.agent.call(tool, **arguments)).data

    async def read(self, path: str) -> bytes:
        """Read a file of the session."""
        data = await self.use("read_file", path=path, encoding="base64")
        return base64.b64decode(cast("str", data["content"]))


def pixels(png: bytes) -> tuple[int, int]:
    """Give width and height of a picture."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def numbers(text: str) -> Iterator[int]:
    """Read the numbers of a text."""
    return map(int, text.split())
