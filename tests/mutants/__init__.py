"""Breaks lines one at a time and shows which of them no test notices: ``python -m tests.mutants FILE...``."""
