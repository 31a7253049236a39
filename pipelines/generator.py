"""The Python interface: tokenizer and prior of a run, loaded together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.artifacts import load_prior, load_tokenizer, sampling_settings
from pipelines.run_folder import RunFolder
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.vqvae import VQVAE
from stage2_prior.prior import Prior
from stage2_prior.sampling import SamplingSettings, classes_in_turn, image_noise, sample

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
    """

    tokenizer: VQVAE
    prior: Prior
    class_names: tuple[str, ...]
    settings: SamplingSettings

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
        return cls(tokenizer.to(device), prior.to(device), names, sampling_settings(saved_prior))

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
        **settings: Any,
    ) -> Samples:
        """Draw new images.

        Args:
            n: How many.
            label: A class by number or name, several to take in turn, or None for all in turn.
            seed: Image i is a function of (seed, i) alone.
            batch_size: Images drawn together.
            progress: Called after every batch with the number of images in it.
            settings: Fields of :class:`~stage2_prior.sampling.SamplingSettings` in place of the recipe's.

        Raises:
            ValueError: If a class or a setting does not exist or is out of range.
        """
        chosen = self.settings_with(**settings)
        labels = self.labels(n, label)
        parts = []
        for start in range(0, n, batch_size):
            rows = range(start, min(start + batch_size, n))
            noise = image_noise(seed, rows, self.layout.length)
            parts.append(sample(self.prior, labels[rows.start : rows.stop].to(self.device), noise, chosen))
            progress(len(rows))
        codes = torch.cat(parts) if parts else torch.empty(0, self.layout.length, dtype=torch.int64)
        return Samples(self.decode(codes, batch_size), codes.cpu(), labels)

    def settings_with(self, **settings: Any) -> SamplingSettings:
        """The recipe's sampling settings with some replaced."""
        recipe = asdict(self.settings)
        for name in settings:
            if name not in recipe:
                raise ValueError(f"sampling has no setting {name!r}: there are {', '.join(recipe)}")
        return SamplingSettings(**{**recipe, **settings})

    def labels(self, n: int, label: Label = None) -> Tensor:
        """Classes of ``n`` images, int64 ``[n]``: those asked for in turn; -1 for a prior without classes."""
        if label is None:
            return classes_in_turn(n, len(self.class_names))
        if not self.class_names:
            raise ValueError(f"label={label}: this prior was trained without labels, leave label out")
        asked = [label] if isinstance(label, int | str) else list(label)
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

    @torch.no_grad()
    def decode(self, codes: Tensor, batch_size: int = 64) -> Tensor:
        """Images ``[B, C, H, W]`` in [0, 1] of ``codes [B, T]``.

        Raises:
            ValueError: If the codes are not of this tokenizer's layout.
        """
        self.layout.check(codes)
        parts = [self.tokenizer.decode(part.to(self.device)).cpu() for part in codes.split(batch_size)]
        return torch.cat(parts).add(1).div(2) if parts else torch.empty(0)

    @torch.no_grad()
    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Log-likelihood under the prior of each of ``codes [B, T]``, in nats: ``[B]``."""
        self.layout.check(codes)
        return self.prior.log_prob(codes.to(self.device), None if labels is None else labels.to(self.device)).cpu()
