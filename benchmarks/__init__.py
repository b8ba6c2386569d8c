"""Programs that print figures, as medians and ratios of one run. No timed tests."""
