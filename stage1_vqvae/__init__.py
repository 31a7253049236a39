"""Stage one: a VQ-VAE turns images into short sequences of integers and back."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
