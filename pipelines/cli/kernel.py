"""What a command shows in the kernel of a notebook: one output that is replaced, not one below the other."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, TypeVar

from PIL import Image

from stage1_vqvae.progress import Progress

REFRESH = 0.5
"""Seconds between two pictures of a bar."""

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


class CellProgress(Progress):
    """Progress as one line of a cell: how far the work is, the time left, the speed."""

    def __enter__(self) -> CellProgress:
        self._display = Display(hidden=self.silent)
        self._start = self._said = time.monotonic()
        self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()

    def reach(self, done: int, note: str | None = None) -> None:
        """Note how much is done, and show it, not more often than it is looked at."""
        self.done, self.note = min(done, self.total), self.note if note is None else note
        if time.monotonic() - self._said >= REFRESH:
            self._show()

    def _show(self) -> None:
        self._said = time.monotonic()
        self._display.show(self.line(self._said - self._start))


def progress(title: str, total: int, done: int = 0, unit: str = "") -> Progress:
    """Progress for a terminal, a log or the cell of a notebook; the arguments are those of ``Progress``."""
    return (CellProgress if in_kernel() else Progress)(title, total, done, unit)


def tracked(items: Iterable[Item], title: str) -> Iterator[Item]:
    """Items one after another, whose number is known, with the progress."""
    assert isinstance(items, Sized)
    with progress(title, len(items)) as shown:
        for item in items:
            yield item
            shown.advance()
