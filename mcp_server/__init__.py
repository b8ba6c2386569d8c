"""The MCP door's place. It will use the same executor and files as the HTTP door."""
