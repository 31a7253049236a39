"""Open a page in the browser to try a run in."""

from __future__ import annotations

import threading
from pathlib import Path

from pipelines.cli.console import console
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings
from pipelines.generator import Generator
from pipelines.playground.app import check_gradio, open_page


def play(settings: Settings) -> None:
    """Open a page on ``settings["model"]``, until the command is stopped.

    Raises:
        ValueError: If there is no finished run, Gradio is missing, or the port is taken.
    """
    check_gradio()
    device = build(settings["hardware"], "hardware").device
    generator = Generator.load(Path(settings["model"]), device, settings["trust"])
    page = open_page(generator, settings["host"], settings["port"], settings["n"], settings["queue"])
    console.print(f"{page.local_url}  (Ctrl-C closes it)")
    try:
        threading.Event().wait()
    finally:
        page.close()
