"""One contender of ``tests.benchmarks.quantizers`` in a process of its own: prints seconds and MiB of its steps."""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable

import torch
from torch import Tensor

from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from tests.benchmarks.timing import seconds

Step = Callable[[Tensor], None]
"""A training step on vectors ``[1, D, N, 1]``."""


def ours(codes: int, dim: int, device: str) -> Step:
    """This project's quantizer; forward, backward and update."""
    quantizer = EMAVectorQuantizer(dim, codes, init="random").to(device)  # k-means is not part of a step

    def step(z: Tensor) -> None:
        quantized = quantizer(z)
        (quantized.vectors.sum() + quantized.loss).backward()
        quantizer.step()

    return step


def vector_quantize_pytorch(codes: int, dim: int, device: str) -> Step:
    """lucidrains/vector-quantize-pytorch with its moving averages."""
    from vector_quantize_pytorch import VectorQuantize

    quantizer = VectorQuantize(dim=dim, codebook_size=codes, decay=0.99, accept_image_fmap=True).to(device)

    def step(z: Tensor) -> None:
        quantized, _, loss = quantizer(z)
        (quantized.sum() + loss.sum()).backward()

    return step


def diffusers(codes: int, dim: int, device: str) -> Step:
    """huggingface/diffusers' quantizer, which learns its codebook by gradient alone."""
    from diffusers.models.autoencoders.vae import VectorQuantizer

    quantizer = VectorQuantizer(codes, dim, beta=0.25).to(device)

    def step(z: Tensor) -> None:
        quantized, loss, _ = quantizer(z)
        (quantized.sum() + loss).backward()

    return step


def cdist(codes: int, dim: int, device: str) -> Step:
    """The search alone, as one line of torch."""
    codebook = torch.randn(codes, dim, device=device)

    def step(z: Tensor) -> None:
        torch.cdist(z.detach()[0, :, :, 0].T, codebook).argmin(1)

    return step


def floor(codes: int, dim: int, device: str) -> Step:
    """Tiles of products and the places of their maxima, nothing else."""
    codebook = torch.randn(codes, dim, device=device)
    rows = max(1, (2**20 if device == "cpu" else 2**26) // codes)

    def step(z: Tensor) -> None:
        for tile in z.detach()[0, :, :, 0].T.contiguous().split(rows):
            (tile @ codebook.T).argmax(1)

    return step


CONTENDERS: dict[str, Callable[[int, int, str], Step]] = {
    "floor": floor,
    "ours": ours,
    "vector-quantize-pytorch": vector_quantize_pytorch,
    "diffusers": diffusers,
    "cdist, search alone": cdist,
}
"""Each makes its step for K, D and a device."""

PEERS = {"vector-quantize-pytorch": "vector_quantize_pytorch", "diffusers": "diffusers"}
"""Contenders that need a package, and which."""


def peak_mib(device: str) -> float:
    """The most memory that this process held so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Print seconds of the fastest step and MiB beyond model and inputs at the peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("size", type=int, nargs=3, metavar="SIZE", help="N vectors, K codes, D channels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    vectors, codes, dim = arguments.size
    make = CONTENDERS[arguments.contender]
    # A tiny step first, so that what libraries load on their first use does not count.
    make(8, dim, arguments.device)(torch.randn(1, dim, 64, 1, device=arguments.device).requires_grad_())
    step = make(codes, dim, arguments.device)
    z = torch.randn(1, dim, vectors, 1, device=arguments.device).requires_grad_()
    before = peak_mib(arguments.device)
    took = seconds(lambda: step(z), arguments.repeats)
    print(f"{took} {peak_mib(arguments.device) - before}")


if __name__ == "__main__":
    main()
