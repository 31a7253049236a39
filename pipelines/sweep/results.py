"""The results of a sweep: its table on the screen, ``sweep.csv`` and ``sweep.html``."""

from __future__ import annotations

from pathlib import Path

from pipelines.cli.console import console
from pipelines.sweep.jobs import earlier_jobs
from pipelines.sweep.page import write_sweep_page
from pipelines.sweep.table import Sweep, as_csv, as_table
from stage1_vqvae.files import replacing


def write_results(folder: Path) -> None:
    """Print the table of a sweep's folder and write ``sweep.csv`` and ``sweep.html``; nothing if it has no jobs."""
    sweep = Sweep.read(folder)
    if not sweep.rows:
        return
    with replacing(folder / "sweep.csv") as temporary:
        temporary.write_text(as_csv(sweep), encoding="utf-8")
    write_sweep_page(folder / "sweep.html", sweep)
    console.print(as_table(sweep))
    failed = sum(row.record.status != "finished" for row in sweep.rows)
    if failed:
        console.print(f"[red]{failed} of {len(sweep.rows)} jobs did not finish[/]")
    earlier = earlier_jobs(folder)
    if earlier:
        console.print(f"of an earlier sweep into this folder, not listed: {', '.join(map(str, earlier))}")
    console.print(f"{folder / 'sweep.csv'}\n{folder / 'sweep.html'}")
