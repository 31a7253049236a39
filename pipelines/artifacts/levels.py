"""Priors whose grids are trained apart from one another, at different times or on different machines, and joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.artifacts.models import Saved, save_model
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.config.claims import comparable, differences
from pipelines.config.instantiate import build
from pipelines.distributed import collectives
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import read_json, read_yaml, write_json, write_yaml
from stage2_prior.code_store.manifest import MANIFEST
from stage2_prior.prior import Prior

LEVEL = "level of a prior"
"""What its ``config.yaml`` calls itself."""


def missing_levels(run: RunFolder) -> list[int]:
    """Grids whose part of the prior is still to be trained; none where the prior is whole or was never in parts."""
    parts = sorted((run.prior / "levels").glob("*/settings.yaml"))
    if finished(run.prior) or not parts:
        return []
    layout = CodeLayout.from_dict(read_json(run.codes("train") / MANIFEST)["layout"])
    return [grid for grid in range(len(layout.grids)) if not finished(run.level(grid))]


def check_agreement(run: RunFolder, settings: Mapping[str, Any]) -> None:
    """Raise ValueError if parts trained before would not join with one of these settings.

    Args:
        run: The run.
        settings: What the part is claimed with.
    """
    for path in sorted((run.prior / "levels").glob("*/settings.yaml")):
        other = comparable(read_yaml(path))
        for of_part, mine in ((other["tokenizer"], settings["tokenizer"]), (model(other), model(comparable(settings)))):
            if found := differences(of_part, mine):
                raise ValueError(
                    f"{path.parent} holds a part of another prior ({found[0].removeprefix(': ')}): "
                    "give its settings, or another output=, or remove that folder"
                )


def model(settings: Mapping[str, Any]) -> Any:
    """The model that a part belongs to, as it was configured."""
    return settings["stage2"]["model"]


def join_levels(run: RunFolder, trust: Sequence[str]) -> None:
    """Write the whole prior if every grid's part is trained; the same parts give the same bytes.

    Args:
        run: The run.
        trust: Further packages whose classes may be named.
    """
    if finished(run.prior) or missing_levels(run) or collectives.rank() != 0:
        collectives.barrier()
        return
    first = Saved.open(run.level(0), LEVEL)
    layout = CodeLayout.from_dict(first.config["layout"])
    classes = first.config["num_classes"]
    prior: Prior = build(first.config["model"], "stage2.model", trust, layout=layout, num_classes=classes)
    for grid in range(len(layout.grids)):
        part = prior.level(grid)
        Saved.open(run.level(grid), LEVEL).load_weights(part)
    metrics = [read_json(run.level(grid) / "metrics.json") for grid in range(len(layout.grids))]
    write_json(run.prior / "metrics.json", joined_metrics(metrics, layout))
    write_yaml(run.prior / "settings.yaml", read_yaml(run.level(0) / "settings.yaml"))
    config = {key: value for key, value in first.config.items() if key not in ("kind", "format", "version")}
    save_model(run.prior, "prior", prior, config, trust)
    collectives.barrier()


def joined_metrics(metrics: Sequence[Mapping[str, float]], layout: CodeLayout) -> dict[str, float]:
    """Metrics of the whole prior from those of its parts: means over positions, and each grid's own nats."""
    means = {
        name: float(np.average([each[name] for each in metrics], weights=layout.lengths)) for name in sorted(metrics[0])
    }
    return means | {f"nats_{grid}": each["nats"] for grid, each in enumerate(metrics)}
