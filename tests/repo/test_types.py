"""Types are complete for users: Mypy's strict mode has nothing to say of the pages' examples."""

import subprocess
import sys

import pytest

from tests.support.pages import PAGES, ROOT, blocks


@pytest.mark.slow
def test_examples_pass_strict_mypy(tmp_path):
    for page in PAGES:
        text = "\n".join(block.text for block in blocks(page) if block.language == "python" and not block.file)
        if text and page != "docs/extending.md":  # whose examples are files of a package
            (tmp_path / f"{page.replace('/', '_').removesuffix('.md').lower()}_page.py").write_text(text)
    examples = sorted(tmp_path.glob("*.py"))
    assert len(examples) >= 4
    command = [
        sys.executable,
        "-m",
        "mypy",
        *map(str, examples),
    ]  # strict, and with the cache of the project's own check
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
