"""``gaoler top``: executions as they happen, on a terminal."""
