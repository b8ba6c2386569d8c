"""Who may call and run now: rates, places, a fair order, and whether the host can take more."""
