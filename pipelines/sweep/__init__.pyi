from .start import SweepStart as SweepStart
