"""Files of checkpoints: complete or absent, with their SHA-256 beside them, plain data and tensors inside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO

from pipelines.config.migrations import modernised_weights
from stage1_vqvae.files import replacing, sha256

FORMAT = 1
"""Version of what a checkpoint holds; another one is refused rather than guessed at."""

WEIGHTS = ("state_dict", "current_model_state")
"""Where a checkpoint holds weights by name: those to keep, and those in training where they are averaged."""


class VerifiedIO(CheckpointIO):
    """Writes ``NAME.ckpt`` and ``NAME.ckpt.sha256`` (as ``sha256sum`` writes it); reads only what agrees with both.

    Args:
        model: Class of the model whose weights are read; those of earlier versions get the names of today.
    """

    def __init__(self, model: type = object) -> None:
        super().__init__()
        self.model = model

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the file, completely or not at all; its digest is renamed into place first.

        Raises:
            OSError: If the folder is full or cannot be written; what was there before stays.
        """
        path = Path(path)
        try:
            with replacing(path) as temporary:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
                with replacing(digest_path(path)) as digest:
                    digest.write_text(f"{sha256(temporary)}  {path.name}\n", encoding="utf-8")
        # torch's writer hides the system's error behind its own.
        except (OSError, RuntimeError) as error:
            reason = next((e.strerror for e in _chain(error) if isinstance(e, OSError) and e.strerror), str(error))
            raise OSError(
                f"{path} cannot be written ({reason}): make room, then give the same command again; "
                "earlier checkpoints are intact and it goes on from them"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """The checkpoint: plain data and tensors, never code.

        Raises:
            ValueError: If it is damaged, of another format, or holds anything else.
        """
        return load_checkpoint(Path(path), self.model)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file and its digest."""
        path = Path(path)
        path.unlink(missing_ok=True)
        digest_path(path).unlink(missing_ok=True)


def _chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_chain(error.__cause__ or error.__context__)]


def load_checkpoint(path: Path, model: type = object) -> dict[str, Any]:
    """A verified checkpoint, on the CPU; plain data and tensors, never code.

    Args:
        path: Its file.
        model: Class of the model whose weights it holds; those of earlier versions get the names of today.

    Raises:
        ValueError: If it is damaged, of another format, or holds anything else.
    """
    fault = fault_of(path)
    if fault:
        raise ValueError(f"{path} {fault}: restore it, or remove {path.parent} to train from the start")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # What a broken pickle raises is anything at all.
    except Exception as error:
        raise ValueError(
            f"{path} holds more than plain data and tensors ({type(error).__name__}) and is not loaded: "
            f"remove {path.parent} to train from the start"
        ) from error
    found = checkpoint.get("format") if isinstance(checkpoint, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path}: checkpoint of format {FORMAT} expected, found {found}: finish it with the version that wrote it, "
            f"or remove {path.parent} to train from the start"
        )
    for name in WEIGHTS:
        if name in checkpoint:
            checkpoint[name] = modernised_weights(model, checkpoint[name])
    return checkpoint


def fault_of(path: Path) -> str | None:
    """What is wrong with a checkpoint's bytes; None where nothing is."""
    if not path.is_file():
        return "is missing"
    try:
        expected = digest_path(path).read_text(encoding="utf-8").split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        return "has no readable SHA-256 beside it"
    found = sha256(path)
    return None if found == expected else f"is damaged (SHA-256 {expected[:12]} expected, {found[:12]} found)"


def digest_path(path: Path) -> Path:
    """Where a checkpoint's SHA-256 is."""
    return path.with_name(f"{path.name}.sha256")


def step_path(folder: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return folder / f"step-{step:08d}.ckpt"


def steps_in(folder: Path) -> list[int]:
    """Steps that a folder has checkpoints of, verified or not, newest first."""
    found = (re.fullmatch(r"step-(\d+)\.ckpt", path.name) for path in folder.glob("step-*.ckpt"))
    return sorted((int(match[1]) for match in found if match), reverse=True)


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint that verifies: its step, None where there is none, and what was wrong with newer ones."""

    step: int | None
    passed_over: tuple[str, ...] = ()


def newest(folder: Path) -> Newest:
    """Look for the checkpoint to go on from.

    Raises:
        ValueError: If there are checkpoints and none verifies.
    """
    faults: list[str] = []
    for step in steps_in(folder):
        path = step_path(folder, step)
        fault = fault_of(path)
        if fault is None:
            return Newest(step, tuple(faults))
        faults.append(f"{path} {fault}")
    if faults:
        raise ValueError(
            f"{'; '.join(faults)}: no checkpoint is whole; restore one, or remove {folder} to train from the start"
        )
    return Newest(None)
