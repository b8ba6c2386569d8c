"""What the admin API asks: how this process is, what it has done, and what operators may change."""
