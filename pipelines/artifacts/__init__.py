"""Models on disk: their folders, what made them, and how older ones are read."""
