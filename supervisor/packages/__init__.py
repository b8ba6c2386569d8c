"""Packages that the operator installs for every sandbox: what they are called, and how they get there."""
