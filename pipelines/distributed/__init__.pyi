from .hardware import Hardware as Hardware
