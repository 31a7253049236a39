"""The Python interface: tokenizer and prior of a run, loaded together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.artifacts.models import load_prior, load_tokenizer, sampling_settings
from pipelines.artifacts.run_folder import RunFolder
from pipelines.config.instantiate import check
from pipelines.masks import held_codes
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import NO_LABEL, Prior
from stage2_prior.sampling.batch_invariance import in_passes, pass_size
from stage2_prior.sampling.inpainting import complete_images
from stage2_prior.sampling.sampler import SamplingSettings, classes_in_turn, sample_images
from stage2_prior.sampling.sliding_window import sample_larger_images, window_shape

DECODED = 16
"""Images that the decoder draws in one pass; a divisor of every prior's."""

Label = int | str | Sequence[int | str] | None
"""A class by number or name, several, or None for all in turn."""


@dataclass(frozen=True)
class Samples:
    """New images.

    Attributes:
        images: float32 ``[N, C, H, W]`` in [0, 1].
        codes: int64 ``[N, T]``, what the prior drew.
        labels: int64 ``[N]``, the classes asked for; -1 without.
    """

    images: Tensor
    codes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Generator:
    """A tokenizer and the prior over its codes.

    Attributes:
        tokenizer: Images to codes and back.
        prior: The distribution of codes.
        class_names: By class number; empty for a prior without labels.
        settings: How the recipe samples: what :meth:`sample` does unless told otherwise.
        fingerprint: Of the prior, which covers the tokenizer's.
    """

    tokenizer: Tokenizer
    prior: Prior
    class_names: tuple[str, ...]
    settings: SamplingSettings
    fingerprint: str

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device | None = None, trust: Sequence[str] = ()) -> Generator:
        """Load a run's folder.

        Args:
            folder: What a pipeline left.
            device: Where to compute; None for a GPU if there is one.
            trust: Packages beside this project's whose classes the run's configuration may name.

        Raises:
            ValueError: If the folder holds no finished tokenizer and prior, or they do not belong together.
        """
        run = RunFolder(Path(folder))
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer, saved_tokenizer = load_tokenizer(run.tokenizer, trust)
        prior, saved_prior = load_prior(run.prior, saved_tokenizer.fingerprint, trust)
        names = tuple(saved_prior.config["class_names"])
        settings = sampling_settings(saved_prior)
        return cls(tokenizer.to(device), prior.to(device), names, settings, saved_prior.fingerprint)

    @property
    def layout(self) -> CodeLayout:
        """How codes are laid out."""
        return self.tokenizer.layout

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return next(self.prior.parameters()).device

    def sample(
        self,
        n: int,
        label: Label = None,
        seed: int = 0,
        batch_size: int = 64,
        progress: Callable[[int], None] = lambda images: None,
        first: int = 0,
        image_size: tuple[int, int] | None = None,
        **settings: Any,
    ) -> Samples:
        """Draw new images.

        On one kind of device image i is a function of (seed, i), its class and the settings alone, bit for bit: the
        models compute in passes of a fixed size (:mod:`stage2_prior.sampling.batch_invariance`).

        Args:
            n: How many.
            label: A class by number or name, several to take in turn, or None for all in turn.
            seed: Of the noise.
            batch_size: Images whose codes are drawn before they are decoded, rounded up to whole passes.
            progress: Called after every pass with the number of images in it.
            first: Index of the first image: ``sample(8, first=8)`` goes on where ``sample(8)`` ended.
            image_size: ``(H, W)`` in pixels of images larger than the run's, drawn by a sliding window (see
                :func:`~stage2_prior.sampling.sliding_window.sample_larger`); None for the run's own.
            settings: Fields of :class:`~stage2_prior.sampling.sampler.SamplingSettings` in place of the recipe's.

        Raises:
            ValueError: If a number is out of range, or a class or a setting does not exist or is out of range.
        """
        for name, number, least in (("n", n, 1), ("batch_size", batch_size, 1), ("first", first, 0)):
            if number < least:
                raise ValueError(f"{name} is at least {least}, got {number}")
        chosen = self.settings_with(**settings)
        larger = self.larger_grid(image_size)
        labels = self.labels(first + n, label)
        codes, images = [], []
        size = self.whole_passes(batch_size)
        edges = [first, *range((first // size + 1) * size, first + n, size), first + n]
        for start, stop in pairwise(edges):
            part = labels[start:stop].to(self.device)
            if larger is None:
                drawn = sample_images(self.prior, part, seed, start, chosen, progress=progress)
            else:
                drawn = sample_larger_images(self.prior, part, seed, larger, start, chosen, progress)
            codes.append(drawn.cpu())
            images.append(self._decode(drawn, start, image_size))
        return Samples(torch.cat(images), torch.cat(codes), labels[first:])

    def whole_passes(self, images: int) -> int:
        """The number of images rounded up to that of whole passes of the prior."""
        size = pass_size(self.layout, self.device)
        return -(-images // size) * size

    def larger_grid(self, image_size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Shape in codes of images of ``(H, W)`` pixels that are larger than the run's; None for the run's own.

        Raises:
            ValueError: If they are smaller, no grid gives that size, or the run's codes are not of one grid.
        """
        if image_size is None or image_size == self.tokenizer.image_size:
            return None
        height, width = self.tokenizer.layout_of(image_size).grids[0]
        window_shape(self.prior, (height, width))
        return height, width

    def complete(
        self,
        codes: Tensor,
        keep_mask: Tensor,
        labels: Tensor | None = None,
        seed: int = 0,
        candidates: int = 1,
        progress: Callable[[int], None] = lambda images: None,
        **settings: Any,
    ) -> Samples:
        """Hold some codes of images and draw the rest; see :func:`~stage2_prior.sampling.inpainting.complete_images`.

        Args:
            codes: int64 ``[B, T]``; those that are not kept may be anything.
            keep_mask: bool ``[B, T]`` or ``[T]``, true where a code is held.
            labels: int64 ``[B]``, -1 for "any class"; None is -1 for all.
            seed: Completion i is a function of its codes, its label and (seed, i) alone.
            candidates: Completions drawn for each image, of which one is taken that suits also the codes held after
                the first drawn one; 1 takes no notice of them.
            progress: Called after every pass with the number of images in it.
            settings: Fields of :class:`~stage2_prior.sampling.sampler.SamplingSettings` in place of the recipe's.

        Raises:
            ValueError: If codes, mask or labels do not fit, or a setting does not exist or is out of range.
        """
        chosen = self.settings_with(**settings)
        known = held_codes(codes, keep_mask, self.layout).to(self.device)
        labels = torch.full((len(codes),), NO_LABEL) if labels is None else labels
        drawn = complete_images(self.prior, labels.to(self.device), known, seed, candidates, chosen, progress).cpu()
        return Samples(self.decode(drawn), drawn, labels)

    def settings_with(self, **settings: Any) -> SamplingSettings:
        """The recipe's sampling settings with some replaced.

        Raises:
            ValueError: If there is no such setting, or its value is of a wrong type or out of range.
        """
        check(SamplingSettings, settings, "sampling")
        return replace(self.settings, **settings)

    def labels(self, n: int, label: Label = None) -> Tensor:
        """Classes of ``n`` images, int64 ``[n]``: those asked for in turn; -1 for a prior without classes."""
        if label is None:
            return classes_in_turn(n, len(self.class_names))
        if not self.class_names:
            raise ValueError(f"label={label}: this prior was trained without labels, leave label out")
        asked = [label] if isinstance(label, int | str) else list(label)
        if not asked:
            raise ValueError("label=[]: one class at least expected, or null for all in turn")
        numbers = torch.tensor([self._class_number(one) for one in asked])
        return numbers[torch.arange(n) % len(numbers)]

    def _class_number(self, label: int | str) -> int:
        if isinstance(label, str) and label in self.class_names:
            return self.class_names.index(label)
        if isinstance(label, int) and 0 <= label < len(self.class_names):
            return label
        raise ValueError(
            f"label={label}: classes are 0 to {len(self.class_names) - 1} or by name {', '.join(self.class_names)}"
        )

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Codes ``[B, T]`` of ``images [B, C, H, W]`` in [0, 1]."""
        return self.tokenizer.encode(images.to(self.device) * 2 - 1).cpu()

    def decode(self, codes: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [0, 1] of ``codes [B, T]``.

        Raises:
            ValueError: If the codes are not of this tokenizer's layout.
        """
        self.layout.check(codes)
        return self._decode(codes.to(self.device))

    @torch.no_grad()
    def _decode(self, codes: Tensor, first: int = 0, image_size: tuple[int, int] | None = None) -> Tensor:
        def decode_pass(part: Tensor) -> Tensor:
            return self.tokenizer.decode(part, image_size).cpu()

        return in_passes(decode_pass, first, DECODED, codes).add(1).div(2)

    @torch.no_grad()
    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Log-likelihood under the prior of each of ``codes [B, T]``, in nats: ``[B]``."""
        self.layout.check(codes)
        return self.prior.log_prob(codes.to(self.device), None if labels is None else labels.to(self.device)).cpu()
