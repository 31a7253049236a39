"""The smallest priors that still know something, for tests of what holds of all of them."""

import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.transformer.model import Transformer

LAYOUT = CodeLayout(((2, 3),), (5,))


def build(kind, layout=LAYOUT, std=0.5, classes=2):
    torch.manual_seed(0)
    if kind is Transformer:
        model = Transformer(layout, classes, width=16, layers=1, heads=2)
    else:
        model = PixelCNN(layout, classes, width=8, layers=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()
