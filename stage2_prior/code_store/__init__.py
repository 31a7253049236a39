"""Codes on disk."""
