from .jobs import SweepStart as SweepStart
