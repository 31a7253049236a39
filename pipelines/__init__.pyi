from .generator import Generator as Generator
from .generator import Samples as Samples
