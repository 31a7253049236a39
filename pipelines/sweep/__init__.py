"""Sweeps: their jobs, what jobs share, and their table."""
