"""The results of a sweep: its table on the screen, ``sweep.csv``, ``groups.csv`` and ``sweep.html``."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from pipelines.cli.console import console
from pipelines.sweep.groups import grouped
from pipelines.sweep.naming import status
from pipelines.sweep.outcomes import Sweep
from pipelines.sweep.page import write_sweep_page
from pipelines.sweep.table import as_csv, group_table, groups_as_csv, job_table
from stage1_vqvae.files import replacing


def write_results(folder: Path) -> None:
    """Print the table of a sweep's folder and write its files; nothing if it has no jobs.

    Jobs that differ in their seeds alone are one row on the screen and in ``groups.csv``; ``sweep.csv`` has them all.
    """
    sweep = Sweep.read(folder)
    if not sweep.rows:
        return
    groups = grouped(sweep)
    files = {"sweep.csv": as_csv(sweep)} | ({"groups.csv": groups_as_csv(groups)} if groups else {})
    for name, text in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_sweep_page(folder / "sweep.html", sweep, groups)
    console.print(group_table(sweep, groups) if groups else job_table(sweep))
    left = [row.record for row in sweep.rows if not row.finished]
    pruned = sum(record.status == "pruned" for record in left)
    if groups:
        for record in left:
            console.print(Text(f"job {record.number} {status(record)}"))
    if pruned:
        console.print(f"{pruned} of {len(sweep.rows)} jobs were pruned")
    if len(left) > pruned:
        console.print(f"[red]{len(left) - pruned} of {len(sweep.rows)} jobs did not finish[/]")
    console.print("\n".join(str(folder / name) for name in (*files, "sweep.html")))
