"""Adversarial training: discriminators, their losses, and what keeps the two sides in balance."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
