"""The README and the pages of ``docs/`` as tests read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
}

MARKS = ("gpus", "hours", "network", "extra")
"""What stands behind ``bash`` at a block whose commands tests cannot run: what they would need.

``extra`` stands for an extra of this package, ``[onnx]`` say.
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: As ``python``; empty where none is named.
        mark: What stands behind the language; empty without.
        file: The file that the line before names, as `` `mypackage/losses.py`: ``; empty where it names none.
        text: The lines within.
    """

    language: str
    mark: str
    file: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    pattern = r"(?:`([\w./]+)`:\n\n)?^```(\w*) ?(\w*)\n(.*?)^```"
    found = re.findall(pattern, PAGES[page], flags=re.S | re.M)
    return [Block(language, mark, file, text) for file, language, mark, text in found]


def commands(page: str) -> list[tuple[str, str]]:
    """The commands of a page's ``bash`` blocks, each with its block's mark; a line that ends in ``\\`` goes on."""
    found = []
    for block in blocks(page):
        if block.language == "bash":
            lines = block.text.replace("\\\n", " ").strip().splitlines()
            found += [(line, block.mark) for line in lines if not line.startswith("#")]
    return found


def prose(page: str) -> str:
    """A page without its fenced and indented blocks."""
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.S | re.M)
    return re.sub(r"^ {4}.*$", "", text, flags=re.M)
