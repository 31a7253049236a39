"""``python -m pipelines.run``: both stages, from images to new images."""

from __future__ import annotations

from pathlib import Path

from pipelines import processes
from pipelines.building import build
from pipelines.command import Settings, command, console
from pipelines.extract_codes import extract_codes
from pipelines.generator import Generator
from pipelines.report import write_report
from pipelines.run_folder import RunFolder
from pipelines.sample import write_samples
from pipelines.train_stage1 import train_stage1
from pipelines.train_stage2 import train_stage2


def run(settings: Settings) -> None:
    """Every step of ``settings["output"]`` that is not done yet."""
    folder = RunFolder(Path(settings["output"]))
    train_stage1(settings)
    extract_codes(settings)
    train_stage2(settings)
    generator = Generator.load(folder.path, build(settings["trainer"], "trainer").device, settings["trust"])
    write_samples(generator, folder.samples, settings, settings["sampling"])
    if processes.rank() == 0:
        write_report(folder)
    console.print(f"\nsamples  {folder.samples / 'grid.png'}\nreport   {folder.report}")


main = command("config")(run)

if __name__ == "__main__":
    main()
