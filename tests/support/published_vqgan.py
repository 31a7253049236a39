"""The published VQGAN (arXiv 2012.09841, appendix A, table 7) as functions of named weights, in taming's names.

It shares no code with ours: it walks the names of a checkpoint, and computes each layer where it finds one.
"""

import numpy as np
import torch


def random_weights(widths, layers, latent, dim, codes, channels=3, attended=(), middle=True, seed=0):
    """Weights of a whole model with random numbers in every place."""
    generator = torch.Generator().manual_seed(seed)
    found = {}

    def add(name, *shape):
        spread = np.sqrt(1 / max(np.prod(shape[1:]), 1))
        found[f"{name}.weight"] = torch.randn(shape, generator=generator) * spread
        found[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1

    def norm(name, width):
        found[f"{name}.weight"] = 1 + torch.randn(width, generator=generator) * 0.1
        found[f"{name}.bias"] = torch.randn(width, generator=generator) * 0.1

    def block(name, inputs, outputs):
        norm(f"{name}.norm1", inputs)
        add(f"{name}.conv1", outputs, inputs, 3, 3)
        norm(f"{name}.norm2", outputs)
        add(f"{name}.conv2", outputs, outputs, 3, 3)
        if inputs != outputs:
            add(f"{name}.nin_shortcut", outputs, inputs, 1, 1)

    def attention(name, width):
        norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            add(f"{name}.{part}", width, width, 1, 1)

    last = len(widths) - 1
    for part, resample in (("encoder", "down"), ("decoder", "up")):
        add(f"{part}.conv_in", *((widths[0], channels) if part == "encoder" else (widths[-1], latent)), 3, 3)
        before = widths[0] if part == "encoder" else widths[-1]
        for level in range(last + 1) if part == "encoder" else range(last, -1, -1):
            for index in range(layers + (part == "decoder")):
                block(f"{part}.{resample}.{level}.block.{index}", before, widths[level])
                before = widths[level]
                if level in attended:
                    attention(f"{part}.{resample}.{level}.attn.{index}", before)
            if level != (last if part == "encoder" else 0):
                add(f"{part}.{resample}.{level}.{resample}sample.conv", before, before, 3, 3)
        for name in ("block_1", "block_2"):
            block(f"{part}.mid.{name}", widths[-1], widths[-1])
        if middle:
            attention(f"{part}.mid.attn_1", widths[-1])
        norm(f"{part}.norm_out", before)
        add(f"{part}.conv_out", latent if part == "encoder" else channels, before, 3, 3)
    add("quant_conv", dim, latent, 1, 1)
    add("post_quant_conv", latent, dim, 1, 1)
    found["quantize.embedding.weight"] = torch.randn(codes, dim, generator=generator)
    return found


class PublishedVQGAN:
    """The model of a dictionary of weights, in float64."""

    def __init__(self, weights, groups=32):
        self.weights = {name: value.double().numpy() for name, value in weights.items()}
        self.groups = groups

    def encode(self, images):
        """Codes [B, h, w] of images [B, C, H, W], and what stood before the quantizer."""
        x = self.convolution("encoder.conv_in", images.astype(np.float64))
        levels = self.count("encoder.down.")
        for level in range(levels):
            x = self.blocks(f"encoder.down.{level}", x)
            if level < levels - 1:
                x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))
                x = self.convolution(f"encoder.down.{level}.downsample.conv", x, border=0)[:, :, ::2, ::2]
        x = self.ending("encoder", self.middle("encoder", x))
        z = self.convolution("quant_conv", x)
        codebook = self.weights["quantize.embedding.weight"]
        distances = ((z[:, None] - codebook[None, :, :, None, None]) ** 2).sum(2)
        return distances.argmin(1), z

    def decode(self, codes):
        """Images [B, C, H, W] of codes [B, h, w]."""
        x = np.moveaxis(self.weights["quantize.embedding.weight"][codes], -1, 1)
        x = self.convolution("decoder.conv_in", self.convolution("post_quant_conv", x))
        x = self.middle("decoder", x)
        for level in reversed(range(self.count("decoder.up."))):
            x = self.blocks(f"decoder.up.{level}", x)
            if level:
                x = self.convolution(f"decoder.up.{level}.upsample.conv", x.repeat(2, 2).repeat(2, 3))
        return self.ending("decoder", x)

    def count(self, prefix):
        """How many numbered parts there are behind a prefix."""
        return len({name[len(prefix) :].partition(".")[0] for name in self.weights if name.startswith(prefix)})

    def blocks(self, name, x):
        """Every residual block of a resolution, each with the attention behind it, where there is one."""
        for index in range(self.count(f"{name}.block.")):
            x = self.residual(f"{name}.block.{index}", x)
            if f"{name}.attn.{index}.q.weight" in self.weights:
                x = self.attention(f"{name}.attn.{index}", x)
        return x

    def middle(self, part, x):
        """Block, attention, block."""
        x = self.residual(f"{part}.mid.block_1", x)
        if f"{part}.mid.attn_1.q.weight" in self.weights:
            x = self.attention(f"{part}.mid.attn_1", x)
        return self.residual(f"{part}.mid.block_2", x)

    def ending(self, part, x):
        """What ends a network."""
        return self.convolution(f"{part}.conv_out", swish(self.norm(f"{part}.norm_out", x)))

    def residual(self, name, x):
        """A residual block."""
        h = self.convolution(f"{name}.conv1", swish(self.norm(f"{name}.norm1", x)))
        h = self.convolution(f"{name}.conv2", swish(self.norm(f"{name}.norm2", h)))
        return h + (self.convolution(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in self.weights else x)

    def attention(self, name, x):
        """Attention of every place to every place."""
        h = self.norm(f"{name}.norm", x)
        q, k, v = (self.convolution(f"{name}.{part}", h).reshape(*x.shape[:2], -1) for part in "qkv")
        logits = np.einsum("bci,bcj->bij", q, k) / np.sqrt(x.shape[1])
        shares = np.exp(logits - logits.max(2, keepdims=True))
        shares /= shares.sum(2, keepdims=True)
        return x + self.convolution(f"{name}.proj_out", np.einsum("bij,bcj->bci", shares, v).reshape(x.shape))

    def norm(self, name, x):
        """Group normalization with 1e-6 in the root."""
        grouped = x.reshape(len(x), self.groups, -1)
        mean, spread = grouped.mean(2, keepdims=True), np.sqrt(grouped.var(2, keepdims=True) + 1e-6)
        normed = ((grouped - mean) / spread).reshape(x.shape)
        return normed * self.weights[f"{name}.weight"][:, None, None] + self.weights[f"{name}.bias"][:, None, None]

    def convolution(self, name, x, border=1):
        """A convolution of stride 1; one of 3×3 has a border of zeros."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        size = weight.shape[-1]
        if size == 3 and border:
            x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
        return np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True) + bias[:, None, None]


def swish(x):
    """x σ(x)."""
    return x / (1 + np.exp(-x))
