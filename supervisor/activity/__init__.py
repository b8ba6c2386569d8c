"""What the daemon does and has done lately: executions as they run, how long their steps take, how they end."""
