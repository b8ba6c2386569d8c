"""``gaoler shell``: a person at a terminal, line by line, in a lasting session of a sandbox."""
