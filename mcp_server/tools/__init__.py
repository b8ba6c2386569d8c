"""The tools, one module for each kind of thing. Importing this registers them all."""

from __future__ import annotations

from mcp_server.tools import code, files, languages, processes, sessions
from mcp_server.tools.common import REGISTRY

__all__ = ["REGISTRY", "code", "files", "languages", "processes", "sessions"]
