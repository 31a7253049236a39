from .bottlenecks import CodeLatents as CodeLatents
from .bottlenecks import GaussianLatents as GaussianLatents
from .latent_pixels import LatentPixelModel as LatentPixelModel
