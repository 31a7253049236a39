from .from_python import train as train
from .generator import Generator as Generator
from .samples import Samples as Samples
