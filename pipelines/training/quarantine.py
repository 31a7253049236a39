"""The list of images that a run left out because they cannot be read."""

from __future__ import annotations

from pathlib import Path

from pipelines.cli.command import console
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.data.decoding import write_quarantine
from stage1_vqvae.files import replacing


def note_quarantine(images: ImageData, output: str | None) -> None:
    """Say how many images are left out, and list them in ``quarantine.csv`` of the run's folder, if there is one."""
    bad = images.quarantine
    if not bad:
        return
    listed = f"the first is {bad[0].where} ({bad[0].reason})"
    if output is not None:
        path = Path(output) / "quarantine.csv"
        with replacing(path) as temporary:
            write_quarantine(temporary, bad)
        listed = f"see {path}"
    total = len(bad) + len(images.train) + len(images.validation)
    console.print(f"[yellow]![/] {len(bad)} of {total} images cannot be read and are left out: {listed}")
