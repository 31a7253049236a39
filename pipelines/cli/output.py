"""Printing never ends a command: characters that a stream cannot take become plain ones, a closed stream is left."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

PLAIN = {
    "✓": "+",
    "•": "*",
    "×": "x",
    "–": "-",
    "…": "...",
    "→": "->",
    "≈": "~",
    "·": "*",
    "“": '"',
    "”": '"',
    "’": "'",
}
"""What a stream gets in place of a character that it cannot take."""


HYDRAS = "Error executing job with overrides:"
"""How Hydra begins to repeat the command line of a job that failed."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: plain characters in place of others, without their accents, else a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    wrong = error.object[error.start : error.end]
    return "".join(PLAIN.get(character) or _without_accents(character) for character in wrong), error.end


def _without_accents(character: str) -> str:
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


codecs.register_error("vqvae_prior.plain", _plain)


class LastingStream:
    """A text stream whose ``write`` and ``flush`` raise nothing; all else is the stream's own.

    When the stream cannot be written any more (its reader has gone, its disk is full), what comes later is dropped.
    What Hydra says of a job that failed is dropped as well: the job has said it, in words.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what the stream can take of a text; returns the text's length."""
        if text.startswith(HYDRAS):
            return len(text)
        encoding = self._stream.encoding or "utf-8"
        with self._lasting():
            self._stream.write(text.encode(encoding, "vqvae_prior.plain").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        with self._lasting():
            self._stream.flush()

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: it is closed
            with suppress(OSError, ValueError):  # what it still holds goes nowhere, also when the interpreter ends
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Make printing raise nothing while the block runs."""
    before: tuple[TextIO | None, TextIO | None] = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # for a stream that was closed when Python started
        sys.stdout, sys.stderr = (LastingStream(stream or nowhere) for stream in before)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
