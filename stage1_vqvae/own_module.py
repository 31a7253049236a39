"""A module from elsewhere as a tokenizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout, codes_of
from stage1_vqvae.tokenizer import Tokenizer

PROTOCOL = ("encode", "decode", "layout")
"""What a module needs to be a tokenizer."""


class ModuleTokenizer(Tokenizer):
    """Any module with ``encode``, ``decode`` and ``layout`` as a tokenizer, whatever is inside.

    What the module returns is checked each time.

    Args:
        image_size: ``(H, W)`` in pixels.
        channels: C, channels of an image, 1 to 4.
        module: ``encode(images)`` gives codes, int64 ``[B, T]``, of images ``[B, C, H, W]`` in [-1, 1];
            ``decode(codes)`` gives images, and ``layout`` is the :class:`~stage1_vqvae.codes.CodeLayout` of the codes.
            In eval mode an image's codes are the same each time.

    Raises:
        ValueError: If the module lacks one of the three, or there are not 1 to 4 channels.
    """

    def __init__(self, image_size: tuple[int, int], channels: int, module: nn.Module) -> None:
        super().__init__(image_size, channels)
        missing = [name for name in PROTOCOL if not hasattr(module, name)]
        if missing:
            raise ValueError(f"{type(module).__name__} has no {' and no '.join(missing)}: a tokenizer needs them")
        if not isinstance(module.layout, CodeLayout):
            raise ValueError(f"{type(module).__name__}.layout: a CodeLayout expected, got {module.layout!r}")
        self.module: Any = module
        self.layout = module.layout
        # Callers ask a tokenizer's parameters for its device, and a module need not have any.
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)

    @property
    def name(self) -> str:
        """The module's class, for messages."""
        return type(self.module).__name__

    def encode(self, images: Tensor) -> Tensor:
        """Codes, int64 ``[B, T]``, of ``images [B, C, H, W]`` in [-1, 1].

        Raises:
            ValueError: If the images do not fit, or the module gives no such codes.
        """
        self.check(images)
        try:
            codes = codes_of(self.module.encode(images), self.layout)
        except ValueError as error:
            raise ValueError(f"{self.name}.encode: {error}") from error
        if len(codes) != len(images):
            raise ValueError(f"{self.name}.encode: codes of {len(images)} images expected, got those of {len(codes)}")
        return codes

    def decode(self, codes: Tensor, image_size: tuple[int, int] | None = None) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] of ``codes [B, T]``.

        Raises:
            ValueError: If the codes or the size do not fit, or the module gives no such images.
        """
        given = codes_of(codes, self.layout_of(image_size or self.image_size))
        images = self.module.decode(given)
        expected = (len(given), self.channels, *self.image_size)
        if not isinstance(images, Tensor) or images.shape != expected or not images.is_floating_point():
            found = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"{self.name}.decode: floats {list(expected)} expected, got {found}")
        return images.clamp(-1, 1)
