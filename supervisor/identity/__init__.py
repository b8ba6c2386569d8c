"""Who calls: API keys, LibreChat's tokens, and the forms in which a request carries them. Both doors ask here."""
