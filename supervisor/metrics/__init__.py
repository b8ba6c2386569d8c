"""Figures for a monitoring system: what they are called, where they come from, how they are written."""
