"""The networks of VQGAN (arXiv 2012.09841) around any quantizer."""

from __future__ import annotations

from collections.abc import Sequence

from stage1_vqvae.likelihoods import Likelihood
from stage1_vqvae.networks.vqgan import OWN_STYLE, BlockStyle, VQGANDecoder, VQGANEncoder
from stage1_vqvae.one_level import OneLevelTokenizer
from stage1_vqvae.quantizers.base import Quantizer


class VQGAN(OneLevelTokenizer):
    """A tokenizer with VQGAN's encoder and decoder; how it is trained is another matter.

    Args:
        image_size: ``(H, W)`` in pixels.
        channels: C, channels of an image, 1 to 4.
        quantizer: Any :class:`~stage1_vqvae.quantizers.base.Quantizer`.
        width: Channels that the multipliers multiply.
        multipliers: Of the width at each resolution, the image's own first. Between two the sides are halved: n of them
            make codes that stand for f × f pixels, f = 2ⁿ⁻¹.
        layers: Residual blocks at each resolution; a pair: of the encoder, of the decoder.
        attention: Whether there is self-attention at the lowest resolution.
        activation_checkpointing: Whether activations inside a block are computed again in the backward pass: less
            memory, a third more time, the same numbers.
        padding, likelihood: As for :class:`~stage1_vqvae.levels.LevelTokenizer`.
        style: How the blocks are made; None for this project's own way.

    Raises:
        ValueError: If there are fewer than two multipliers or one is below 1, width is odd, there is no layer, the
            style does not fit, f does not divide the padded image size, or there are not 1 to 4 channels.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        quantizer: Quantizer,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 4),
        layers: int | tuple[int, int] = (1, 2),
        attention: bool = True,
        activation_checkpointing: bool = False,
        padding: int = 0,
        likelihood: Likelihood | None = None,
        style: BlockStyle | None = None,
    ) -> None:
        if len(multipliers) < 2 or min(multipliers) < 1:
            raise ValueError(f"multipliers are two numbers at least, each 1 or more, got {list(multipliers)}")
        if width < 2 or width % 2:
            raise ValueError(f"width is even, so that channels can be normalized in groups, got {width}")
        depths = (layers, layers) if isinstance(layers, int) else layers
        if min(depths) < 1:
            raise ValueError(f"layers is at least 1, got {layers}")
        blocks = style or OWN_STYLE
        widths = tuple(width * multiplier for multiplier in multipliers)
        blocks.check(widths)
        outputs = likelihood.outputs(channels) if likelihood else channels
        how = (attention, activation_checkpointing, blocks)
        encoder = VQGANEncoder(channels, quantizer.dim, width, multipliers, depths[0], *how)
        decoder = VQGANDecoder(outputs, quantizer.dim, width, multipliers, depths[1], *how)
        factor = 2 ** (len(multipliers) - 1)
        super().__init__(image_size, channels, encoder, quantizer, decoder, factor, padding, likelihood)
        self.widths = widths
        self.layers: tuple[int, int] = (depths[0], depths[1])
        self.attention = attention
        self.style = blocks
