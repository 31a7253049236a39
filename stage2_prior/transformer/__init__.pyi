from .model import Transformer as Transformer
