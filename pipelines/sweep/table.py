"""The table of a sweep: every job's overrides and final figures, sorted, on the screen, as CSV and as a page."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from pipelines.artifacts.run_folder import RunFolder
from pipelines.cli.console import console
from pipelines.report import page as html
from pipelines.report.plots import figure, percent
from pipelines.sweep.jobs import JobRecord, earlier_jobs, read_records
from pipelines.tracking.metrics import DEFAULT, final_metrics, goal
from stage1_vqvae.files import replacing

SHOWN = ("stage2.nats", "stage1.psnr", "stage1.usage")
"""Figures on the screen and the page, beside the objective; the CSV has all."""

THUMBNAIL = 480
"""Pixels across a thumbnail."""


@dataclass(frozen=True)
class Row:
    """A job in the table.

    Attributes:
        record: How it fared.
        overrides: Values by key, of its command line.
        figures: Final ones, by stage and name.
    """

    record: JobRecord
    overrides: dict[str, str]
    figures: dict[str, float]


@dataclass(frozen=True)
class Sweep:
    """All jobs of a sweep's folder, the best first.

    Attributes:
        folder: Where the jobs' folders are.
        objective: The figure they are sorted by.
        rows: A row for each job; those without the figure come last.
    """

    folder: Path
    objective: str
    rows: list[Row]

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """What the jobs' folders say."""
        rows = [
            Row(record, split(record.overrides), final_metrics(RunFolder(folder / str(record.number))))
            for record in read_records(folder)
        ]
        asked = next((row.overrides["objective"] for row in rows if "objective" in row.overrides), "null")
        named = asked.strip("[]").split(",")[0].strip()
        found = {name for row in rows for name in row.figures}
        objective = named if goal(named) else next((name for name in DEFAULT if name in found), DEFAULT[0])
        sign = -1 if goal(objective) == "max" else 1

        def place(row: Row) -> tuple[float, int]:
            value = sign * row.figures.get(objective, math.nan)
            return (math.inf if math.isnan(value) else value, row.record.number)

        return cls(folder, objective, sorted(rows, key=place))

    @property
    def varied(self) -> list[str]:
        """Keys whose values differ between jobs."""
        keys = dict.fromkeys(key for row in self.rows for key in row.overrides)
        return [key for key in keys if len({row.overrides.get(key) for row in self.rows}) > 1]

    @property
    def shown(self) -> list[str]:
        """Figures for a reader, the objective first."""
        found = {name for row in self.rows for name in row.figures}
        return [name for name in dict.fromkeys([self.objective, *SHOWN]) if name in found]

    @property
    def order(self) -> str:
        """How the table is sorted, in words."""
        return f"{self.objective}, {'highest' if goal(self.objective) == 'max' else 'lowest'} first"


def split(overrides: Sequence[str]) -> dict[str, str]:
    """Values by key of Hydra's overrides."""
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def write_table(folder: Path) -> None:
    """Print the table of a sweep's folder and write ``sweep.csv`` and ``sweep.html``; nothing if it has no jobs."""
    sweep = Sweep.read(folder)
    if not sweep.rows:
        return
    with replacing(folder / "sweep.csv") as temporary:
        temporary.write_text(as_csv(sweep), encoding="utf-8")
    with replacing(folder / "sweep.html") as temporary:
        temporary.write_text(as_page(sweep), encoding="utf-8")
    console.print(as_table(sweep))
    failed = sum(row.record.status != "finished" for row in sweep.rows)
    if failed:
        console.print(f"[red]{failed} of {len(sweep.rows)} jobs did not finish[/]")
    earlier = earlier_jobs(folder)
    if earlier:
        console.print(f"of an earlier sweep into this folder, not listed: {', '.join(map(str, earlier))}")
    console.print(f"{folder / 'sweep.csv'}\n{folder / 'sweep.html'}")


def as_table(sweep: Sweep) -> Table:
    """For the screen."""
    table = Table(
        title=f"{sweep.folder.name}: {sweep.order}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("job", justify="right")
    for key in shortest(sweep.varied):
        table.add_column(key, overflow="fold")
    for name in shortest(sweep.shown):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", overflow="fold")
    for row in sweep.rows:
        values = [row.overrides.get(key, "") for key in sweep.varied]
        numbers = [value_of(row, name) for name in sweep.shown]
        table.add_row(*map(Text, (str(row.record.number), *values, *numbers, status(row.record))))  # brackets stay
    return table


def value_of(row: Row, name: str) -> str:
    """A job's figure as people read it, nothing where it has none."""
    if name not in row.figures:
        return ""
    return (percent if name.startswith("stage1.usage") else figure)(row.figures[name])


def shortest(keys: Sequence[str]) -> list[str]:
    """Keys by their last part, or whole where another one ends alike."""
    last = [re.split(r"[./]", key)[-1] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def status(record: JobRecord) -> str:
    """How a job fared, in words."""
    return f"{record.status}: {record.error}" if record.error else record.status


def as_csv(sweep: Sweep) -> str:
    """Every override and every figure of every job."""
    keys = list(dict.fromkeys(key for row in sweep.rows for key in row.overrides))
    names = sorted({name for row in sweep.rows for name in row.figures})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", *keys, *names, "status", "seconds", "error"])
    for row in sweep.rows:
        record = row.record
        values = [row.overrides.get(key, "") for key in keys] + [row.figures.get(name, "") for name in names]
        writer.writerow([record.number, *values, record.status, record.seconds, record.error])
    return text.getvalue()


def as_page(sweep: Sweep) -> str:
    """One self-contained page: the table, and samples of each job beside its settings."""
    name = sweep.folder.name
    finished = sum(row.record.status == "finished" for row in sweep.rows)
    constant = {key: value for key, value in sweep.rows[0].overrides.items() if key not in sweep.varied}
    header = (
        f"<header>\n<h1>{escape(name)}</h1>\n"
        f'<p class="soft">{finished} of {len(sweep.rows)} jobs finished; sorted by {escape(sweep.order)}.</p>\n'
        "</header>\n"
    )
    thumbnails = "".join(thumbnail(sweep, row) for row in sweep.rows)
    parts = (
        header,
        html.section("Jobs", html.box(page_table(sweep), layout="scroll")),
        html.section("Samples", f'<div class="jobs">{thumbnails}</div>\n'),
        html.section("In common", html.box(html.pairs(constant.items()))) if constant else "",
    )
    return html.page(f"{name} – sweep", parts)


def page_table(sweep: Sweep) -> str:
    """The table of the page; a job's number leads to its report."""
    classes = ["number"] * (1 + len(sweep.varied)) + ["number right"] * len(sweep.shown) + ["number"]
    heads = ("job", *shortest(sweep.varied), *shortest(sweep.shown), "status")
    head = "".join(f'<th class="{kind}">{escape(name)}</th>' for kind, name in zip(classes, heads, strict=True))
    body = ""
    for place, row in enumerate(sweep.rows):
        cells = [link(sweep, row, str(row.record.number))]
        cells += [escape(row.overrides.get(key, "")) for key in sweep.varied]
        cells += [value_of(row, name) for name in sweep.shown]
        cells.append(escape(row.record.status))
        best = ' class="best"' if place == 0 and sweep.objective in row.figures else ""
        inside = "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in zip(classes, cells, strict=True))
        body += f"<tr{best}>{inside}</tr>\n"
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n"


def thumbnail(sweep: Sweep, row: Row) -> str:
    """A job's samples, or why there are none, with what is its own."""
    grid = sweep.folder / str(row.record.number) / "samples" / "grid.png"
    pairs = zip(shortest(sweep.varied), sweep.varied, strict=True)
    words = ", ".join(f"{short} {row.overrides.get(key, '–')}" for short, key in pairs)
    value = value_of(row, sweep.objective)
    title = f"<b>{link(sweep, row, f'job {row.record.number}')}</b> {escape(words)}"
    if value:
        title += f" <span>{escape(sweep.objective)} {value}</span>"
    if row.record.status != "finished":
        title += f'<div class="note">{escape(status(row.record))}</div>'
    picture = html.picture(grid, f"samples of job {row.record.number}", width=THUMBNAIL) if grid.exists() else ""
    return f'<div class="box"><div class="job">{title}</div>{picture}</div>\n'


def link(sweep: Sweep, row: Row, text: str) -> str:
    """Text that leads to a job's report, if it has one."""
    report = Path(str(row.record.number)) / "report.html"
    return f'<a href="{report}">{text}</a>' if (sweep.folder / report).exists() else text
