from .convolutional import Decoder as Decoder
from .convolutional import Encoder as Encoder
from .convolutional import ResidualStack as ResidualStack
from .vqgan import BlockStyle as BlockStyle
from .vqgan import VQGANDecoder as VQGANDecoder
from .vqgan import VQGANEncoder as VQGANEncoder
