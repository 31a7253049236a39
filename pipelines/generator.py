"""The Python interface: tokenizer and prior of a run, loaded together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.artifacts.models import load_prior, load_tokenizer, preprocessing_of, recipe
from pipelines.artifacts.origin import Origin
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.config.instantiate import check
from pipelines.distributed.devices import find_device
from pipelines.inputs.codes import prefix_codes
from pipelines.inputs.images import images_of
from pipelines.inputs.labels import Label, check_trained, class_numbers, labels_of, trained_classes
from pipelines.inputs.numbers import image_size_of, whole_number
from pipelines.inputs.paths import path_of
from pipelines.masks import held_mask, kept_pixels
from pipelines.publishing.pretrained import Pretrained
from pipelines.samples import Samples
from stage1_vqvae.codes import CodeLayout, codes_of, integer_codes
from stage1_vqvae.data.preprocessing import COLOURS, Preprocessing
from stage1_vqvae.refinement import refined
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from stage2_prior.sampling.batch_invariance import BASE, MicroBatch, in_microbatches, plan
from stage2_prior.sampling.guidance import warn_of_idle_guidance
from stage2_prior.sampling.inpainting import complete_images, held_codes
from stage2_prior.sampling.sampler import Drawn, classes_in_turn, sample_images
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.sampling.sliding_window import sample_larger_images, window_shape

DECODED = 16
"""Images that the networks compute at a time, so that the bits of one do not depend on others."""

LARGEST_SEED = 2**64 - 1
"""A seed is one of 64 bits."""


@dataclass(frozen=True, eq=False)
class Generator(Pretrained):
    """A tokenizer and the prior over its codes.

    Attributes:
        tokenizer: Images to codes and back.
        prior: The distribution of codes.
        class_names: By class number; empty for a prior without labels.
        settings: How the recipe samples: what :meth:`sample` does unless told otherwise.
        fingerprint: Of both: the prior's, which covers the tokenizer's, unless the decoder was trained further.
        class_counts: Training images of each class; empty where that is not known.
        step: Of the checkpoint that the prior is of, where its training has not ended; None of a finished one.
        origin: The run that both come from; None of models that were put together by hand.
    """

    tokenizer: Tokenizer
    prior: Prior
    class_names: tuple[str, ...]
    settings: SamplingSettings
    fingerprint: str
    class_counts: tuple[int, ...] = ()
    step: int | None = None
    origin: Origin | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device | None = None,
        trust: Sequence[str] = (),
        tokenizer: str | Path | None = None,
    ) -> Generator:
        """Load a run's folder; of a prior that still trains the newest checkpoint.

        Args:
            folder: What a pipeline left.
            device: Where to compute, such as ``cpu`` or ``cuda:1``; None for the accelerator, or the CPU without one.
            trust: Packages beside this project's whose classes the run's configuration may name.
            tokenizer: Another folder with the prior's tokenizer; None where it lies in the same.

        Raises:
            ValueError: If it holds no finished tokenizer and prior that belong together, or there is no such device.
        """
        path = path_of(folder, "folder")
        if path.is_file():
            raise ValueError(f"{path} is a file: give the run's folder, {path.parent} perhaps")
        run = RunFolder(path)
        try:
            where = find_device(device)
        except ValueError as error:
            raise ValueError(f"device={device}: {error}; without device= the best one is taken") from error
        beside = run if tokenizer is None else RunFolder(path_of(tokenizer, "tokenizer"))
        encoder, saved_tokenizer = load_tokenizer(beside.tokenizer, trust)
        unfinished = None
        if not finished(run.prior):
            from pipelines.artifacts.unfinished import find_unfinished  # imports Lightning's checkpoints

            unfinished = find_unfinished(run, saved_tokenizer.codes_fingerprint, trust)
        if unfinished is None:
            prior, saved = load_prior(run.prior, saved_tokenizer.codes_fingerprint, trust)
            known: Mapping[str, Any] = saved.config
            fingerprint, step = saved.fingerprint, None
        else:
            prior, known = unfinished.prior, unfinished.config
            fingerprint, step = unfinished.fingerprint, unfinished.step
        names, counts = tuple(known["class_names"]), tuple(known.get("class_counts", ()))
        settings = recipe(known["sampling"], trust)
        fingerprints = {"tokenizer": saved_tokenizer.fingerprint, "prior": fingerprint}
        origin = Origin(run, fingerprints, saved_tokenizer.config, known, tuple(trust))
        drawn_by = origin.images_fingerprint
        return cls(encoder.to(where), prior.to(where), names, settings, drawn_by, counts, step, origin)

    @property
    def layout(self) -> CodeLayout:
        """How codes are laid out."""
        return self.tokenizer.layout

    @property
    def form(self) -> Preprocessing:
        """How files and PIL images are prepared: as those of the training, as far as that is known."""
        return preprocessing_of(self.origin.tokenizer if self.origin else {}, self.tokenizer)

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
        prefix: Any = None,
        on_position: Callable[[list[int], Tensor], None] | None = None,
        **settings: Any,
    ) -> Samples:
        """Draw new images.

        On one kind of device image i is a function of (seed, i), its class, its prefix and the settings alone, bit for
        bit; see :mod:`stage2_prior.sampling.batch_invariance`.

        Args:
            n: How many.
            label: A class by number or name, several to take in turn (also as a tensor or array of numbers), -1 for the
                null class, or None for all in turn.
            seed: Of the noise.
            batch_size: Images whose codes are drawn before they are decoded, rounded up to whole micro-batches.
            progress: Called after every micro-batch with the number of images in it.
            first: Index of the first image: ``sample(8, first=8)`` goes on where ``sample(8)`` ended.
            image_size: ``(H, W)`` in pixels of images larger than the run's, drawn by a sliding window (see
                :func:`~stage2_prior.sampling.sliding_window.sample_larger`); None for the run's own.
            prefix: The first codes of every image, integers ``[t]``, or of each, ``[n, t]``; the others are drawn.
            on_position: Called after every position of a micro-batch with the indices of its images and their codes
                so far, int64 ``[images, t]``; from several threads, one at a time.
            settings: Fields of :class:`~stage2_prior.sampling.SamplingSettings` in place of the recipe's.

        Raises:
            ValueError: If a number, class, setting or prefix is wrong, or larger images get a prefix or on_position.
        """
        n, batch_size = whole_number(n, "n", 1), whole_number(batch_size, "batch_size", 1)
        first, seed = whole_number(first, "first", 0), whole_number(seed, "seed", 0, LARGEST_SEED)
        chosen = self.settings_with(**settings)
        warn_of_idle_guidance(self.prior, chosen)
        image_size = None if image_size is None else image_size_of(image_size)
        larger = self.larger_grid(image_size)
        if larger is not None and not (prefix is None and on_position is None):
            raise ValueError("prefix and on_position are for images of the run's own size")
        labels = self.labels(first + n, label)
        known = None if prefix is None else prefix_codes(prefix, n, self.layout)
        found, images = [], []
        size = self.whole_microbatches(batch_size)
        edges = [first, *range((first // size + 1) * size, first + n, size), first + n]
        for start, stop in pairwise(edges):
            part = labels[start:stop]
            if larger is None:
                held = None if known is None else known[start - first : stop - first]
                drawn = sample_images(self.prior, part, seed, start, chosen, held, progress, on_position)
            else:
                drawn = sample_larger_images(self.prior, part, seed, larger, start, chosen, progress)
            found.append([each.cpu() for each in drawn])
            images.append(self._decode(found[-1][0], start, image_size))
        codes, log_probs = (torch.cat(each) for each in zip(*found, strict=True))
        return Samples(torch.cat(images), codes, labels[first:], log_probs)

    def whole_microbatches(self, images: int) -> int:
        """The number of images rounded up to that of whole micro-batches."""
        images = whole_number(images, "images", 1)
        on_cpu = self.device.type == "cpu"
        size = BASE if on_cpu else plan(self.prior, range(images), size=self.settings.microbatch_size).size
        return -(-images // size) * size

    def larger_grid(self, image_size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Shape in codes of images of ``(H, W)`` pixels that are larger than the run's; None for the run's own.

        Raises:
            ValueError: If they are smaller, no grid gives that size, or the run's codes are not of one grid.
        """
        asked = None if image_size is None else image_size_of(image_size)
        if asked is None or asked == self.tokenizer.image_size:
            return None
        height, width = self.tokenizer.layout_of(asked).grids[0]
        window_shape(self.prior, (height, width))
        return height, width

    def complete(
        self,
        codes: Any,
        keep_mask: Any,
        labels: Label = None,
        seed: int = 0,
        candidates: int | None = None,
        progress: Callable[[int], None] = lambda images: None,
        originals: Any = None,
        **settings: Any,
    ) -> Samples:
        """Hold some codes of images and draw the rest; see :func:`~stage2_prior.sampling.inpainting.complete_images`.

        Args:
            codes: Integers ``[B, T]`` (or as :func:`~stage1_vqvae.codes.codes_of` takes them); those that are not
                kept may be anything.
            keep_mask: bool ``[B, T]`` or ``[T]``, true where a code is held; pixels that are kept, bool ``[H, W]``; or
                ``top``, ``bottom``, ``left``, ``right`` or the path of a mask whose white is kept.
            labels: A class for all or one for each, by number or name; None or -1 for the null class.
            seed: Completion i is a function of its codes, its label and (seed, i) alone.
            candidates: Completions drawn for each image, of which one is taken that suits also the codes held after
                the first drawn one; 1 does not regard these. None: 16 for images that have such codes, 1 for others.
            progress: Called after every micro-batch with the number of images in it.
            originals: Images, as for :meth:`encode`, whose pixels stay where all codes that they belong to are held;
                None for the decoder's pixels everywhere.
            settings: Fields of :class:`~stage2_prior.sampling.SamplingSettings` in place of the recipe's.

        Raises:
            ValueError: If codes, mask, labels or originals do not fit, or a setting does not exist or is out of range.
        """
        chosen = self.settings_with(**settings)
        warn_of_idle_guidance(self.prior, chosen)
        seed = whole_number(seed, "seed", 0, LARGEST_SEED)
        candidates = None if candidates is None else whole_number(candidates, "candidates", 1)
        given = integer_codes(codes, self.layout).cpu()
        size, padding = self.tokenizer.image_size, self.tokenizer.padding
        known = held_codes(given, held_mask(keep_mask, self.layout, size, padding), self.layout)
        numbers = labels_of(labels, self.class_names, len(given))
        drawn = complete_images(self.prior, numbers, known, seed, candidates, chosen, progress)
        drawn = Drawn(*(each.cpu() for each in drawn))
        images = self._decode(drawn.codes)
        if originals is not None:
            pixels = images_of(originals, self.form)
            if len(pixels) != len(images):
                raise ValueError(f"originals: {len(images)} images expected, got {len(pixels)}")
            kept = torch.stack([kept_pixels(row, self.layout, size, padding) for row in known >= 0])
            images = torch.where(kept[:, None], pixels, images)
        return Samples(images, drawn.codes, numbers, drawn.log_probs)

    def settings_with(self, **settings: Any) -> SamplingSettings:
        """The recipe's sampling settings with some replaced.

        Raises:
            ValueError: If there is no such setting, or its value is of a wrong type or out of range.
        """
        check(SamplingSettings, settings, "sampling")
        return replace(self.settings, **settings)

    def labels(self, n: int, label: Label = None) -> Tensor:
        """Classes of ``n`` images, int64 ``[n]``: those asked for in turn, or all; -1 for a prior without classes.

        All are those with training images.

        Raises:
            ValueError: If there is no such class, or it has no training images.
        """
        n = whole_number(n, "n", 0)
        if label is None:
            return classes_in_turn(n, trained_classes(self.class_names, self.class_counts))
        numbers = class_numbers(label, self.class_names)
        check_trained(numbers, self.class_names, self.class_counts)
        return numbers[torch.arange(n) % len(numbers)]

    def encode(self, images: Any, resize: bool = False, refine: int = 0) -> Tensor:
        """Codes int64 ``[B, T]`` of images.

        Args:
            images: A tensor or array (uint8 of 0 to 255 or floats in [0, 1], channels first or last), PIL images or
                paths, one or several; see :func:`~pipelines.inputs.images.images_of`.
            resize: Whether images of another size are fitted as in training, not refused.
            refine: Sweeps in which codes are exchanged for such as decode nearer to the image; see
                :func:`~stage1_vqvae.refinement.refined`.

        Raises:
            ValueError: If they are of another type, range or size.
        """
        found = images_of(images, self.form, resize)
        sweeps = whole_number(refine, "refine", 0)

        def encode(batch: MicroBatch, images: Tensor) -> list[Tensor]:
            pixels = images.to(self.device) * 2 - 1
            return [refined(self.tokenizer, pixels, self.tokenizer.encode(pixels), sweeps).cpu()]

        (codes,) = in_microbatches(encode, range(len(found)), DECODED, self.device, found)
        return codes

    def decode(self, codes: Any) -> Tensor:
        """Images float32 ``[B, C, H, W]`` in [0, 1] of codes.

        Args:
            codes: Integers of any type, ``[B, T]``, ``[T]``, or as a grid; see
                :func:`~stage1_vqvae.codes.codes_of`.

        Raises:
            ValueError: If they are not of this tokenizer's layout.
        """
        return self._decode(codes_of(codes, self.layout).cpu())

    def _decode(self, codes: Tensor, first: int = 0, image_size: tuple[int, int] | None = None) -> Tensor:
        def decode(batch: MicroBatch, codes: Tensor) -> list[Tensor]:
            return [self.tokenizer.decode(codes.to(self.device), image_size).cpu()]

        (images,) = in_microbatches(decode, range(first, first + len(codes)), DECODED, self.device, codes)
        return images.add_(1).div_(2)

    def reconstruct(self, images: Any, resize: bool = False, refine: int = 0) -> Tensor:
        """Images float32 ``[B, C, H, W]`` in [0, 1] as they are after a way through their codes.

        Args:
            images, resize, refine: As for :meth:`encode`.
        """
        return self._decode(self.encode(images, resize, refine))

    def metrics(self, images: Any, resize: bool = False) -> dict[str, float]:
        """How well images are reconstructed, and how much of the codebook they use.

        Args:
            images, resize: As for :meth:`encode`.

        Returns:
            ``mse`` of pixels in [-1, 1], ``psnr`` in dB, ``ssim``; ``usage``, the share of codes that occur, and
            ``perplexity``, with the grid's number behind if there are several.
        """
        from stage1_vqvae.metrics import CodeUse, reconstruction_quality  # imports torchmetrics

        found = images_of(images, self.form, resize)
        codes = self.encode(found)
        quality, use = reconstruction_quality(), CodeUse(self.layout)
        quality.update(self.decode(codes) * 2 - 1, found * 2 - 1)
        use.update(codes)
        return {name: float(value) for name, value in {**quality.compute(), **use.compute()}.items()}

    @property
    def codebook(self) -> tuple[Tensor, ...]:
        """What the codes of each grid stand for, coarse to fine: vectors float32 ``[K, D]``, of code k in row k."""
        return tuple(vectors.cpu() for vectors in self.tokenizer.codebooks())

    def code_counts(self, codes: Any) -> tuple[Tensor, ...]:
        """How often each code of each grid occurs, int64 ``[K]``.

        Args:
            codes: As for :meth:`decode`.

        Raises:
            ValueError: If they are not of this tokenizer's layout.
        """
        parts = zip(self.layout.split(codes_of(codes, self.layout).cpu()), self.layout.codebook_sizes, strict=True)
        return tuple(torch.bincount(part.flatten(), minlength=size) for part, size in parts)

    def log_prob(self, codes: Any, labels: Label = None) -> Tensor:
        """Log-likelihood under the prior of each image's codes, in nats: float32 ``[B]``.

        Args:
            codes: As for :meth:`decode`.
            labels: A class for all or one for each, by number or name; None or -1 for the null class.

        Raises:
            ValueError: If codes or labels do not fit.
        """
        known = codes_of(codes, self.layout).cpu()
        numbers = labels_of(labels, self.class_names, len(known))

        def log_prob(batch: MicroBatch, codes: Tensor, labels: Tensor) -> list[Tensor]:
            return [self.prior.log_prob(codes.to(self.device), labels.to(self.device)).cpu()]

        (found,) = in_microbatches(log_prob, range(len(known)), DECODED, self.device, known, numbers)
        return found

    def __repr__(self) -> str:
        height, width = self.tokenizer.image_size
        classes = f"{len(self.class_names)} classes" if self.class_names else "no classes"
        return (
            f"Generator of {height}×{width} images, {COLOURS[self.tokenizer.channels]}, {classes}\n"
            f"  tokenizer: {type(self.tokenizer).__name__}, {self.layout.in_words}\n"
            f"  prior: {type(self.prior).__name__}, fingerprint {self.fingerprint[:12]}, on {self.device}"
        )
