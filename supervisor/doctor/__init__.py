"""``gaoler doctor``: what a host, its stores, virtual machines and one program are tried for, and what mends it."""
