"""What a command shows in the kernel of a notebook: one output that is replaced, not one below the other."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from PIL import Image
from rich.console import Console
from rich.progress import Progress, TaskID, track

from pipelines.cli.console import console

REFRESH = 0.5
"""Seconds between two pictures of a bar."""

WIDTH = 100
"""Characters of a line."""

Item = TypeVar("Item")


def in_kernel() -> bool:
    """Whether this process is the kernel of a notebook; nothing is imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class Display:
    """An output of the current cell that shows its newest content alone; shows nothing outside of a kernel.

    Args:
        hidden: Whether it shows nothing in a kernel either.
    """

    def __init__(self, hidden: bool = False) -> None:
        self._hidden = hidden
        self._handle: Any = None

    def show(self, content: str | Image.Image) -> None:
        """Replace what is shown by a text or a picture."""
        if self._hidden or not in_kernel():
            return
        from IPython.display import display

        bundle = {"text/plain": content} if isinstance(content, str) else _png(content)
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _png(image: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return {"image/png": file.getvalue(), "text/plain": f"a picture of {image.width}×{image.height} pixels"}


class KernelProgress(Progress):
    """rich's progress as one line of a cell; rich itself needs a widget for it, and prints its end alone without."""

    def __init__(self, *columns: Any) -> None:
        super().__init__(*columns, console=console, auto_refresh=False)
        self._display = Display()
        self._refreshed = 0.0

    def start(self) -> None:
        """Show the bar."""
        self._show()

    def stop(self) -> None:
        """Leave the bar as it is at the end."""
        self._show()

    def refresh(self) -> None:
        """Show the bar again, not more often than it is looked at."""
        if time.monotonic() - self._refreshed >= REFRESH:
            self._show()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Move the bar."""
        super().advance(task_id, advance)
        self.refresh()

    def _show(self) -> None:
        self._refreshed = time.monotonic()
        if console.quiet:
            return
        text = Console(file=io.StringIO(), width=WIDTH, force_jupyter=False)
        with text.capture() as captured:
            text.print(self.make_tasks_table(self.tasks))
        self._display.show(captured.get().rstrip())


def progress(*columns: Any) -> Progress:
    """A bar, for a terminal or the cell of a notebook.

    Args:
        columns: Of rich; none for its own.
    """
    return KernelProgress(*columns) if in_kernel() else Progress(*columns, console=console)


def tracked(items: Sequence[Item] | Iterable[Item], title: str) -> Iterable[Item]:
    """Items one after another, with a bar that moves."""
    if not in_kernel():
        yield from track(items, title, console=console)
        return
    with KernelProgress() as bar:
        yield from bar.track(items, description=title)
