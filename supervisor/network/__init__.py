"""The daemon's side of the network: rule files, grants at the egress proxy, the audit, and what is said about it."""
