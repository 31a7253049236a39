"""Stage two: autoregressive priors over the codes of stage one, and sampling from them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
