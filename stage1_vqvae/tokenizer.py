"""The interface of tokenizers: images to codes and back. Losses are elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.likelihoods import Likelihood


class Tokenizer(nn.Module, ABC):
    """Encodes images of one size to codes ``[B, T]`` and decodes them: what priors and commands ask of any tokenizer.

    A subclass sets :attr:`layout` and defines :meth:`encode` and :meth:`decode`.

    Args:
        image_size: ``(H, W)`` in pixels.
        channels: C, channels of an image, 1 to 4.

    Raises:
        ValueError: If there are not 1 to 4 channels.

    Attributes:
        layout: How to read the codes of an image.
        padding: Pixels around the image that its codes stand for too.
        likelihood: The distribution whose parameters the decoder gives; None where it gives images.
    """

    layout: CodeLayout
    padding: int = 0
    likelihood: Likelihood | None = None

    def __init__(self, image_size: tuple[int, int], channels: int) -> None:
        super().__init__()
        if not 1 <= channels <= 4:
            raise ValueError(f"images have 1 to 4 channels, got {channels}")
        self.image_size: tuple[int, int] = (image_size[0], image_size[1])
        self.channels = channels

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Codes, int64 ``[B, T]``, of ``images [B, C, H, W]`` in [-1, 1].

        Raises:
            ValueError: If images are not of the model's size and channels.
        """

    @abstractmethod
    def decode(self, codes: Tensor, image_size: tuple[int, int] | None = None) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] of ``codes [B, T]``.

        Args:
            codes: In the layout that :meth:`layout_of` gives for the image size.
            image_size: ``(H, W)``; None for the model's own.

        Raises:
            ValueError: If the codes have another length than that layout.
        """

    def layout_of(self, image_size: tuple[int, int]) -> CodeLayout:
        """The layout of the codes of images of ``(H, W)`` pixels, which need not be the model's own size.

        Raises:
            ValueError: If there is none.
        """
        if tuple(image_size) != self.image_size:
            height, width = self.image_size
            raise ValueError(f"this tokenizer has images of {height}×{width} pixels alone, got {tuple(image_size)}")
        return self.layout

    def nats(self, images: Tensor, codes: Tensor) -> Tensor:
        """Negative log-likelihood ``-log p(images | codes)`` of each image in nats: ``[B]``.

        Args:
            images: ``[B, C, H, W]`` in [-1, 1].
            codes: ``[B, T]``.

        Raises:
            ValueError: If the model has no likelihood.
        """
        raise ValueError("this tokenizer has no likelihood: train it with stage1/likelihood=discretized_logistic")

    def codebooks(self) -> tuple[Tensor, ...]:
        """The vectors that the codes of each grid stand for, coarse to fine: ``[K, D]``, of code k in row k.

        Raises:
            ValueError: If the codes stand for none.
        """
        raise ValueError("the codes of this tokenizer stand for no vectors that it knows of")

    def check(self, images: Tensor) -> None:
        """Raise ValueError unless images are floats ``[B, C, H, W]`` of the model's size and channels."""
        expected = (self.channels, *self.image_size)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"images [B, {', '.join(map(str, expected))}] expected, got {list(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(f"floats in [-1, 1] expected, got {images.dtype}: convert with images / 127.5 - 1")
