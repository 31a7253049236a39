"""Open the page on this machine."""

from __future__ import annotations

from typing import Any

from pipelines.playground.actions import MOST, Actions

WAITING = 16
"""Requests that wait at most, unless the page is opened with another limit."""

ATTEMPTS = 3
"""How often the page is opened before it is given up."""

UPLOAD = "10mb"
"""Largest upload."""


def check_gradio() -> None:
    """Raise ValueError if Gradio is missing."""
    try:
        import gradio  # noqa: F401  that it is there
    except ImportError as error:
        raise ValueError("the playground needs Gradio: pip install 'vqvae-prior[play]'") from error


def open_page(
    generator: Any, host: str = "127.0.0.1", port: int | None = None, most: int = MOST, queue: int = WAITING
) -> Any:
    """Open a page to try a generator in; it stays until the process ends or its ``close`` is called.

    Args:
        generator: A :class:`~pipelines.generator.Generator`.
        host: Address that is listened at. Other machines reach 0.0.0.0, and there is no login.
        port: None for a free one from 7860 on.
        most: Images of a request at most.
        queue: Requests that wait at most.

    Returns:
        Gradio's ``Blocks``.

    Raises:
        ValueError: If Gradio is missing, a number is out of range, or the port is taken.
    """
    check_gradio()
    from pipelines.playground.page import THEME, page_of

    if most < 1 or queue < 1:
        raise ValueError(f"n and queue are at least 1, got {most} and {queue}")
    page = page_of(Actions(generator, most), queue)
    for attempt in range(ATTEMPTS):
        try:
            page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                theme=THEME,
                max_file_size=UPLOAD,
                footer_links=["settings"],
                ssr_mode=False,
            )
            return page
        except OSError as error:
            raise ValueError(f"port={port}: it is taken, or {host} is no address of this machine") from error
        except ValueError as error:  # Gradio asks its own page, and gives up after three seconds of a busy machine
            page.close()
            if attempt == ATTEMPTS - 1:
                raise ValueError(f"{host} does not answer: is it behind a proxy? NO_PROXY={host} helps then") from error
    raise AssertionError("unreachable")
