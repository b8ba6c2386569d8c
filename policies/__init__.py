"""Policies are data: see README.md in this folder. The code that reads them is :mod:`supervisor.policy`."""
