"""The report's section on evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines import report_page as html
from pipelines.evaluation_words import TITLES, meaning
from pipelines.run_folder import RunFolder
from stage2_prior.files import read_json


def evaluation(folder: RunFolder) -> str:
    """Every finished evaluation of a run: what it says of the latents, and its figures."""
    parts = [part for path in sorted(folder.evaluations.glob("*/evaluation.json")) for part in _shown(path)]
    return html.section("Evaluation", *parts)


def _shown(path: Path) -> list[str]:
    found: dict[str, Any] = read_json(path)
    rows = [
        (TITLES[section], name, f"{value:.5g}", meaning(name))
        for section in TITLES
        for name, value in found.get(section, {}).items()
    ]
    words = [found["reading"], *found["remarks"]]
    table = html.table(("Of", "Figure", "Held out", "Meaning"), rows)
    return [html.text(f"{path.parent.name}: {words[0]}"), *map(html.text, words[1:]), html.box(table)]
