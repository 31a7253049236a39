"""One file of a code store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from stage1_vqvae.files import replacing
from stage2_prior.code_store.manifest import Manifest


@dataclass(frozen=True)
class Rows:
    """Rows of a shard: codes ``[n, T]`` and labels ``[n]``."""

    codes: npt.NDArray[np.integer[Any]]
    labels: npt.NDArray[np.int64]


class ShardFile:
    """A safetensors file of ``codes`` ``[n, T]`` and ``labels`` int64 ``[n]``.

    Its metadata holds the digest of the plan that it was written for, so shards of two extractions never mix.

    Args:
        path: Where it is, or will be.
        plan: Digest of the plan, see :attr:`~stage2_prior.code_store.manifest.Manifest.plan`.
        vocabulary: Size of the largest codebook: codes are uint16, or uint32 if they do not fit.
        shape: ``(n, T)``.
    """

    def __init__(self, path: Path, plan: str, vocabulary: int, shape: tuple[int, int]) -> None:
        self.path = path
        self.plan = plan
        self.dtype = np.dtype(np.uint16 if vocabulary <= 2**16 else np.uint32)
        self.shape = shape
        self._mapped: Rows | None = None

    def fault(self) -> str | None:
        """What is wrong with the file, as far as its header and size show; None if nothing is."""
        if not self.path.is_file():
            return f"{self.path} is missing: run extraction again"
        try:
            with safe_open(self.path, "pt") as file:
                plan = (file.metadata() or {}).get("plan")
                parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                found = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
        except (SafetensorError, OSError, ValueError) as error:
            return f"{self.path} is damaged ({error}): delete it and run extraction again"
        expected = {"codes": (f"U{8 * self.dtype.itemsize}", self.shape), "labels": ("I64", self.shape[:1])}
        if plan != self.plan or found != expected:
            return f"{self.path} is damaged or of another extraction: delete it and run extraction again"
        return None

    def write(self, codes: Tensor, labels: Tensor) -> None:
        """Write the file, whole or not at all."""
        tensors = {"codes": codes.cpu().numpy().astype(self.dtype), "labels": labels.cpu().numpy().astype(np.int64)}
        with replacing(self.path) as temporary:
            save_file(tensors, temporary, {"plan": self.plan})

    def rows(self) -> Rows:
        """Its rows, memory-mapped when they are first asked for in a process."""
        if self._mapped is None:
            # Of torch's tensors, unlike numpy's arrays, safetensors gives views of the mapped file.
            with safe_open(self.path, "pt") as file:
                codes, labels = (file.get_tensor(name).numpy() for name in ("codes", "labels"))
            self._mapped = Rows(codes, labels)
        return self._mapped

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}


def shard_files(folder: Path, manifest: Manifest) -> list[ShardFile]:
    """The shards of a manifest in a folder, whether they are written yet or not."""
    plan, layout = manifest.plan.digest, manifest.layout
    return [
        ShardFile(folder / shard.file, plan, layout.vocabulary, (shard.count, layout.length))
        for shard in manifest.shards
    ]
