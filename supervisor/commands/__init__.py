"""The commands of ``gaoler``: a module each, what they share, and how they find and ask a running daemon."""
