from .model import PixelCNN as PixelCNN
