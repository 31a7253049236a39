"""The report's section on evaluations."""

from __future__ import annotations

from typing import Any

from pipelines.artifacts.run_folder import RunFolder
from pipelines.evaluation.wording import TITLES, meaning
from pipelines.report import page as html
from stage1_vqvae.files import read_json


def evaluation(folder: RunFolder) -> str:
    """Every finished evaluation of a run: what it says of the latents, its figures, and remarks on all of them."""
    found = {path.parent.name: read_json(path) for path in sorted(folder.evaluations.glob("*/evaluation.json"))}
    remarks = dict.fromkeys(remark for one in found.values() for remark in one["remarks"])  # each once
    shown = [part for name, one in found.items() for part in _shown(name, one)]
    return html.section("Evaluation, on held-out images", *map(html.text, remarks), *shown)


def _shown(name: str, found: dict[str, Any]) -> list[str]:
    panels = [
        html.figures(title, [(key, f"{value:.5g}", meaning(key)) for key, value in found[section].items()])
        for section, title in TITLES.items()
        if section in found
    ]
    return [html.heading(name), html.text(found["reading"]), html.two_abreast(*panels)]
