"""What a run's folder says, for its report: read when asked for, empty where the run has not come that far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.artifacts.provenance import RECORD
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.tracking.csv import read_metrics
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import read_json, read_yaml
from stage2_prior.code_store.manifest import MANIFEST
from stage2_prior.code_store.store import CodeStore


@dataclass(frozen=True)
class Run:
    """What a run's folder says; parts that do not exist are empty or None."""

    folder: RunFolder

    @property
    def name(self) -> str:
        """Name of the run; of a sweep's job, whose folder has but a number, the sweep's with it."""
        path = self.folder.path.absolute()
        return f"{path.parent.name}/{path.name}" if path.name.isdigit() else path.name

    @cached_property
    def metrics(self) -> dict[str, dict[str, dict[int, float]]]:
        """Logged metrics by stage, metric and step."""
        return read_metrics(self.folder.path)

    @cached_property
    def tokenizer_metrics(self) -> dict[str, float]:
        """Metrics of the finished tokenizer."""
        return if_there(self.folder.tokenizer / "metrics.json")

    @cached_property
    def prior_metrics(self) -> dict[str, float]:
        """Metrics of the finished prior."""
        return if_there(self.folder.prior / "metrics.json")

    @cached_property
    def codes(self) -> CodeStore | None:
        """Codes of the training images."""
        store = self.folder.codes("train")
        return CodeStore.open(store) if (store / MANIFEST).exists() else None

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """Configuration of the finished tokenizer."""
        return if_there(self.folder.tokenizer / "config.yaml")

    @cached_property
    def prior_config(self) -> dict[str, Any]:
        """Configuration of the finished prior."""
        return if_there(self.folder.prior / "config.yaml")

    @cached_property
    def samples_settings(self) -> dict[str, Any]:
        """How the run's samples were drawn."""
        return if_there(self.folder.samples / "settings.yaml")

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The command lines that made the run, the one that ended it last; none where it is not done.

        There are several where parts of the prior were trained apart.
        """
        last = if_there(self.folder.path / RECORD)
        found = (self.folder.prior / "levels").glob(f"*/{RECORD}")
        parts = [if_there(path) for path in sorted(found, key=lambda path: int(path.parent.name))]
        return [*(part for part in parts if part != last), last] if last else []

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that the prior knows."""
        return self.prior_config.get("class_names", [])

    @cached_property
    def layout(self) -> CodeLayout | None:
        """How codes are laid out."""
        if self.codes is not None:
            return self.codes.layout
        return CodeLayout.from_dict(self.prior_config["layout"]) if self.prior_config else None

    def steps(self) -> dict[str, bool]:
        """The steps of the pipeline, and whether each is done."""
        return {
            "tokenizer": finished(self.folder.tokenizer),
            "codes": self.codes is not None,
            "prior": finished(self.folder.prior),
            "samples": (self.folder.samples / "grid.png").exists(),
        }

    def pictures(self, stage: str) -> dict[int, Path]:
        """Pictures drawn during training by step, in order."""
        found = {int(path.stem.rpartition("-")[2]): path for path in self.folder.pictures(stage).glob("*-*.png")}
        return dict(sorted(found.items()))


def if_there(path: Path) -> Any:
    """A JSON or YAML file's mapping; empty where there is no file."""
    if not path.exists():
        return {}
    plain = read_json(path) if path.suffix == ".json" else read_yaml(path)
    if not isinstance(plain, Mapping):
        raise ValueError(f"{path}: names and values expected, got {type(plain).__name__}")
    return plain
