"""``python -m pipelines.run``: both stages, from images to new images."""

from __future__ import annotations

from pathlib import Path

from pipelines import processes
from pipelines.building import build
from pipelines.command import Settings, command, console
from pipelines.extract_codes import check_copies, extract_codes
from pipelines.generator import Generator
from pipelines.report import write_report
from pipelines.run_folder import RunFolder
from pipelines.sample import write_samples
from pipelines.train_stage1 import train_stage1
from pipelines.train_stage2 import train_stage2


def run(settings: Settings) -> None:
    """Every step of ``settings["output"]`` that is not done yet."""
    folder = RunFolder(Path(settings["output"]))
    check(settings)
    train_stage1(settings)
    extract_codes(settings)
    train_stage2(settings)
    generator = Generator.load(folder.path, build(settings["trainer"], "trainer").device, settings["trust"])
    write_samples(generator, folder.samples, settings, settings["sampling"])
    if processes.rank() == 0:
        write_report(folder)
    console.print(f"\nsamples  {folder.samples / 'grid.png'}\nreport   {folder.report}")


def check(settings: Settings) -> None:
    """Build whatever the settings describe, so that a mistake in the last stage is found before the first starts.

    Raises:
        ValueError: If something does not fit.
    """
    trust = settings["trust"]
    for stage in ("stage1", "stage2"):
        build(settings[stage]["optimization"], f"{stage}.optimization", trust)
        build({"_target_": "pipelines.fit.StageTrainer", **settings[stage]["trainer"]}, f"{stage}.trainer")
    build(settings["data"], "data", trust)
    build(settings["stage1"]["objective"], "stage1.objective", trust)
    layout = build(settings["stage1"]["model"], "stage1.model", trust).layout
    build(settings["stage2"]["model"], "stage2.model", trust, layout=layout, num_classes=0)
    build(settings["logger"], "logger", trust)
    build({"_target_": "stage2_prior.sampling.SamplingSettings", **settings["sampling"]}, "sampling")
    check_copies(settings)
    for key in ("n", "batch_size"):
        if settings[key] < 1:
            raise ValueError(f"{key} is at least 1, got {settings[key]}")


main = command("config")(run)

if __name__ == "__main__":
    main()
