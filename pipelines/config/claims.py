"""Which settings make a product, kept beside it, so that a product of other settings is never taken for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.config.instantiate import with_defaults
from pipelines.config.migrations import modernised
from pipelines.config.redaction import redact
from pipelines.distributed import collectives
from stage1_vqvae.files import check_writable, read_yaml, write_yaml

SETTINGS = "settings.yaml"
"""Name of the file that says what made the things beside it."""

EARLIER = "earlier_settings.yaml"
"""Beside it: the settings of fewer steps that the work began with, a list, where the training was made longer."""

IMAGES, STORES = "images", "stores"
CONTENT = (IMAGES, STORES)
"""Keys of what was read: count and digest of each split's images, and the digest of its codes. Version 0.1.0 did not
write them, and images that are gone have none."""

PLACES = ("files", "labels")
"""Keys of ``data`` that say where images are."""


@dataclass(frozen=True)
class OtherImages:
    """What a refusal says where the images are others.

    Attributes:
        changes: How they differ, a line a split; empty where that is not known.
        advice: What to do.
    """

    changes: Callable[[], Sequence[str]]
    advice: str


@dataclass(frozen=True)
class Claim:
    """The settings that make a product.

    They own its folder from the moment that there is a product, or a checkpoint of one in training. Settings that have
    made nothing yet, since something was wrong with them, are replaced by the next ones.

    Attributes:
        path: Where they are kept, beside the product.
        settings: Plain data; secrets are hidden when they are written.
        what: Name of the product, for messages.
        products: The product's files, any of which shows that work has been done.
        checkpoints: Folder of the training's checkpoints; None for what is not trained.
        dependents: What is made of the product, and has to go with it.
        defaults: Values of keys that an earlier version did not write.
        trust: Further packages whose classes may be named.
        names: What keys of the settings are called on the command line, where it is something else.
        other_images: What is said where the images are others; None for their numbers alone.
        stage: Whose trainer's ``max_steps`` may be raised, ``stage1`` say: the training goes on from its checkpoints.
    """

    path: Path
    settings: Mapping[str, Any]
    what: str
    products: Sequence[Path]
    checkpoints: Path | None = None
    dependents: Sequence[Path] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    trust: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    other_images: OtherImages | None = None
    stage: str | None = None

    def check(self) -> None:
        """Find out whether these settings made what is there.

        Raises:
            ValueError: If others did, or nothing says which did.
        """
        kept = [path for path in self._kept() if path.exists()]
        if not self._begun():
            return
        if not kept:
            raise ValueError(
                f"{self._folders()[0]} holds a {self.what}, and no {SETTINGS} says what made it: "
                f"give another output=, or remove {self._removal()}"
            )
        for path in kept:
            if difference := self._refused(read_yaml(path)):
                raise ValueError(self._refusal(path.parent, difference))

    def take(self) -> bool:
        """Write the settings down; called on all processes before work starts, after all that may refuse it.

        Returns:
            Whether they are new here: what an earlier work has left beside the product is not theirs.

        Raises:
            ValueError: If other settings made what is there.
            OSError: If nothing can be written there.
        """
        self.check()
        new = not any(path.exists() and not self._refused(read_yaml(path)) for path in self._kept())
        collectives.barrier()
        if collectives.rank() == 0:
            self._write()
        collectives.barrier()
        return new

    def _write(self) -> None:
        begun, fewer = self._begun(), self.of_fewer_steps()
        earlier = earlier_settings(self.checkpoints) if self.checkpoints and fewer else []
        for path in self._kept():
            # What is there already stays as the version that began the work wrote it.
            if begun and path.exists() and fewer is None:
                continue
            check_writable(path.parent, room=0)
            if fewer is not None:
                write_yaml(path.with_name(EARLIER), [*earlier, fewer])
            write_yaml(path, redact(dict(self.settings)))

    def of_fewer_steps(self) -> dict[str, Any] | None:
        """The settings of what is there, if its training can go on to the steps that these ask for; else None."""
        # Those of the checkpoints first: the checkpoints name their digest.
        kept = (read_yaml(path) for path in reversed(self._kept()) if path.exists())
        return next((old for old in kept if self.differences(old) and not self._refused(old)), None)

    def _refused(self, old: Mapping[str, Any]) -> list[str]:
        """Differences from settings that are kept; none where only more steps are asked for, from a checkpoint on."""
        found = self.differences(old)
        steps = f"{self.stage}.trainer.max_steps: "
        if [line for line in found if not line.startswith(steps)] or not found or not self._has_checkpoints():
            return found
        before, now = (comparable(each)[str(self.stage)]["trainer"]["max_steps"] for each in (old, self.settings))
        return [] if before < now else found

    def _refusal(self, folder: Path, difference: Sequence[str]) -> str:
        more = f"; and {len(difference) - 3} more" if len(difference) > 3 else ""
        of_images = all(line.startswith(f"{IMAGES}, ") for line in difference)
        advice = f"give those, or another output=, or remove {self._removal()}"
        if of_images and self.other_images:
            difference = [f"{IMAGES}, {line}" for line in self.other_images.changes()] or difference
            advice = self.other_images.advice
        kind = "images" if of_images else "settings"
        return f"{folder} holds a {self.what} of other {kind} ({'; '.join(difference[:3])}{more}): {advice}"

    def differences(self, old: Mapping[str, Any]) -> list[str]:
        """Where settings that are kept differ from these, as ``key: old, now new``."""
        found, asked = (
            {**self.defaults, **comparable(plain, self.trust)} for plain in (old, redact(dict(self.settings)))
        )
        for side in (found, asked):
            if "data" in side:
                side["data"] = _places_compared(side["data"], by_content="images" in found)
        for key in CONTENT:  # compared where both sides know it
            if key not in found or key not in asked:
                found.pop(key, None)
                asked.pop(key, None)
        changed = []
        if isinstance(found.get(IMAGES), Mapping):  # completions name a file or a folder so
            changed = change_of_content(found.pop(IMAGES), asked.pop(IMAGES))
        before, now = found.pop(STORES, {}), asked.pop(STORES, {})
        others = [split for split in now if before.get(split, now[split]) != now[split]]
        return [
            *map(self._as_given, differences(found, asked)),
            *(f"{IMAGES}, {line}" for line in changed),
            *(f"{STORES}, {split}: other codes" for split in others),
        ]

    def _as_given(self, difference: str) -> str:
        """A difference by the name of its key on the command line."""
        for key, name in self.names.items():
            if difference.startswith((f"{key}:", f"{key}.")):
                return name + difference[len(key) :]
        return difference

    def _begun(self) -> bool:
        """Whether anything has been made."""
        return any(path.exists() for path in self.products) or self._has_checkpoints()

    def _has_checkpoints(self) -> bool:
        return self.checkpoints is not None and any(self.checkpoints.glob("step-*.ckpt"))

    def _kept(self) -> list[Path]:
        """Where the settings are kept: beside the product, and beside its checkpoints."""
        return [self.path, *([self.checkpoints / SETTINGS] if self.checkpoints else [])]

    def _folders(self) -> list[Path]:
        """Folders that hold something of the product, and of what is made of it."""
        own = [self.path.parent, *([self.checkpoints] if self.checkpoints else [])]
        return [path for path in (*own, *self.dependents) if path.exists()]

    def _removal(self) -> str:
        *others, last = map(str, self._folders())
        return f"{', '.join(others)} and {last}" if others else last


def earlier_settings(folder: Path) -> list[dict[str, Any]]:
    """Settings of fewer steps that the work in a folder began with, the oldest first."""
    path = folder / EARLIER
    return list(read_yaml(path)) if path.exists() else []


def comparable(settings: Mapping[str, Any], trust: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of any version by today's names, with what they leave to defaults written out."""
    named = modernised({key: _named(value) for key, value in settings.items()})
    filled: dict[str, Any] = with_defaults(named, trust)
    return filled


def _places_compared(data: Mapping[str, Any], by_content: bool) -> dict[str, Any]:
    """Settings of images without where they are, if their content is compared; else with absolute paths.

    Of descriptions of splits (see `ImageSplit.description`), which have a digest, the name of the source goes.
    """
    data = {
        key: {name: said for name, said in value.items() if name != "source"}
        if isinstance(value, Mapping) and "digest" in value
        else value
        for key, value in data.items()
    }
    if by_content:
        return {key: value for key, value in data.items() if key not in PLACES}
    places = {key: data[key] for key in PLACES if isinstance(data.get(key), str) and data[key] != "auto"}
    return {**data, **{key: os.path.abspath(os.path.expanduser(path)) for key, path in places.items()}}


def _named(value: Any) -> Any:
    """A stage's settings in which those of its trainer say their class, as everything else does."""
    if isinstance(value, Mapping) and isinstance(value.get("trainer"), Mapping):
        return {**value, "trainer": {"_target_": "pipelines.training.StageTrainer", **value["trainer"]}}
    return value


def change_of_content(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How the images of splits differ, as ``split: 5 images, now 6``.

    Args:
        old, new: ``count`` and ``digest`` of each split; a split that one of them lacks is not compared.
    """
    changes = []
    for split in [name for name in new if name in old]:
        before, now = old[split]["count"], new[split]["count"]
        if before != now or old[split]["digest"] != new[split]["digest"]:
            count = "as many of other content, labels or order" if before == now else now
            changes.append(f"{split}: {before} images, now {count}")
    return changes


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two pieces of plain data differ, as ``key: old, now new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    old, new = (list(value) if isinstance(value, tuple) else value for value in (old, new))
    return [] if old == new else [f"{path}: {old}, now {new}"]
