from .api import train as train
from .api import train_decoder as train_decoder
from .api import train_prior as train_prior
from .api import train_tokenizer as train_tokenizer
from .generator import Generator as Generator
from .publishing.pretrained import tokenizer_from_pretrained as tokenizer_from_pretrained
from .samples import Samples as Samples
