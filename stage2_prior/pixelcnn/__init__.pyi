from .level import PixelCNNLevel as PixelCNNLevel
from .model import PixelCNN as PixelCNN
from .stack import GatedStack as GatedStack
