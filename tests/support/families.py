"""Every quantizer at its smallest, by name, for what holds of all of them."""

import torch

from stage1_vqvae.quantizers import (
    FSQ,
    IBQ,
    BinarySpherical,
    DiVeQ,
    EMAVectorQuantizer,
    GumbelSoftmax,
    LookupFree,
    MultiHead,
    Product,
    Projected,
    Residual,
    SimVQ,
    VectorQuantizer,
)

SMALL = {"dim": 4, "codebook_size": 9}
FAMILIES = {
    "gradient": lambda: VectorQuantizer(**SMALL),
    "ema": lambda: EMAVectorQuantizer(**SMALL),
    "ema cosine rotation": lambda: EMAVectorQuantizer(**SMALL, metric="cosine", gradient="rotation"),
    "ema random start": lambda: EMAVectorQuantizer(**SMALL, init="random"),
    "simvq": lambda: SimVQ(**SMALL),
    "simvq rotation": lambda: SimVQ(**SMALL, gradient="rotation"),
    "diveq": lambda: DiVeQ(**SMALL),
    "ibq": lambda: IBQ(**SMALL),
    "fsq": lambda: FSQ([4, 3, 5]),
    "lfq": lambda: LookupFree(dim=4),
    "bsq": lambda: BinarySpherical(dim=4),
    "gumbel": lambda: GumbelSoftmax(**SMALL, anneal_steps=10),
    "residual ema": lambda: Residual(EMAVectorQuantizer(**SMALL), depth=3, dropout=0.5),
    "residual simvq": lambda: Residual(SimVQ(**SMALL), depth=2),
    "residual fsq": lambda: Residual(FSQ([5, 4, 3, 3]), depth=3, commitment_cost=0.0, scale=0.3),
    "product gradient": lambda: Product(VectorQuantizer(**SMALL), groups=2),
    "product of residuals": lambda: Product(Residual(EMAVectorQuantizer(dim=2, codebook_size=5), depth=2), groups=2),
    "heads of ema": lambda: MultiHead(EMAVectorQuantizer(dim=2, codebook_size=9), heads=2),
    "projected cosine": lambda: Projected(EMAVectorQuantizer(dim=2, codebook_size=9, metric="cosine"), dim=4),
}


def built(name):
    """A quantizer with its random start."""
    torch.manual_seed(0)
    return FAMILIES[name]()


def trained(name, steps=3):
    """A quantizer in evaluation after a few steps of training."""
    quantizer = built(name)
    for _ in range(steps):
        train_step(quantizer, torch.randn(8, quantizer.dim, 6))
    return quantizer.eval()


def train_step(quantizer, z):
    """One optimiser step on vectors ``z [B, D, *spatial]``, with the codebook's own after it."""
    z = z.clone().requires_grad_()
    quantized = quantizer(z)
    (quantized.loss + (quantized.vectors - 1).square().mean()).backward()
    with torch.no_grad():
        for parameter in quantizer.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    quantizer.step()
