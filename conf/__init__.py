"""Hydra configuration, found as ``pkg://conf`` wherever the project is installed."""
