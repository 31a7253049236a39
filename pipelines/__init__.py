"""The commands, and what they share: one file per command."""
