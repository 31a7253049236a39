from .codes import CodeLayout as CodeLayout
from .lightning_module import TokenizerTraining as TokenizerTraining
from .tokenizer import Reconstruction as Reconstruction
from .tokenizer import Tokenizer as Tokenizer
from .vqgan import VQGAN as VQGAN
from .vqvae import VQVAE as VQVAE
from .vqvae2 import VQVAE2 as VQVAE2
