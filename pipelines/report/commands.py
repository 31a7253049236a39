"""The commands and the Python code by which a report says how to go on with its run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config.overrides import key_of, literal
from pipelines.report.run import Run


@dataclass(frozen=True)
class Commands:
    """How to go on with a run.

    Attributes:
        again: The commands that make the run once more, in a folder of its own; empty where they are not known.
        versions: Of what the run ran with.
        sample: The command that draws the run's samples once more, where it has some, and one that draws new ones.
        python: How to use the models from Python.
    """

    again: list[str]
    versions: str
    sample: list[str]
    python: str

    @classmethod
    def of(cls, run: Run) -> Commands:
        """The commands of a run, with paths as they are written from the current folder."""
        path = _shown(run.folder.path)
        again, output = [], word("output", f"{path}-again")
        for record in run.records:
            words = [shlex.quote(given) for given in record["overrides"] if key_of(given) != "output"]
            again.append(" ".join(["python -m pipelines.run", *words, output]))
        versions = run.records[-1]["versions"] if run.records else {}
        return cls(
            again,
            ", ".join(f"{name} {version}" for name, version in versions.items()),
            _sample_commands(run, path),
            _python(run, path),
        )


def word(key: str, value: Any) -> str:
    """Hydra's ``key=value`` for a shell, quoted where either's grammar needs it."""
    return shlex.quote(f"{key}={literal(value)}")


def _sample_commands(run: Run, path: str) -> list[str]:
    command = f"python -m pipelines.sample {word('model', path)}"
    drawn = run.samples_settings if run.steps()["samples"] else {}
    again = [word(name, drawn[name]) for name in ("n", "label", "seed") if drawn.get(name) is not None]
    label = "label=0 " if run.class_names else ""
    new = f"{command} n=64 {label}seed=1 temperature=0.9"
    return [" ".join([command, *again]), new] if again else [new]


def _python(run: Run, path: str) -> str:
    label = "label=0, " if run.class_names else ""
    return (
        "from pipelines.generator import Generator\n\n"
        f"generator = Generator.load({path!r})\n"
        f"samples = generator.sample(64, {label}seed=1)  # images [64, C, H, W] in [0, 1], codes [64, T], labels [64]\n"
        "codes = generator.encode(samples.images)  # [64, T]\n"
        "images = generator.decode(codes)  # [64, C, H, W]\n"
    )


def _shown(path: Path) -> str:
    """A folder as it is called from the current one, if it lies below it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
