"""The privileged program, from ``setup`` on the host down to the process in a jail, and the client of its protocol."""
