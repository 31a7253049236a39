from .generator import Generator as Generator
from .samples import Samples as Samples
