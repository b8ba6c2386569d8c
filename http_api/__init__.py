"""The HTTP door: LibreChat's Code Interpreter API on Quart under Trio. Parses, authenticates, converts; no logic."""
