"""Faults injected into real trainings, stores and files: ``make faults`` counts what survives and what goes wrong."""
