"""Run code in a sandbox as an agent does: ``agent.py URL CODE...``; the calls share variables and files."""

import base64
import os
import sys

import httpx2
import trio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ImageContent, TextContent


async def main(url: str, *programs: str) -> None:
    """Call ``execute_code`` with each program; print what it says, keep its pictures."""
    headers = {"Authorization": f"Bearer {os.environ['GAOLER_API_KEY']}", "X-Conversation-Id": str(os.getpid())}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        for number, program in enumerate(programs):
            result = await client.call_tool("execute_code", {"code": program})
            for place, block in enumerate(result.content):
                if isinstance(block, TextContent):
                    print(block.text)
                elif isinstance(block, ImageContent):
                    await trio.Path(f"picture_{number}_{place}.png").write_bytes(base64.b64decode(block.data))


trio.run(main, *sys.argv[1:])
