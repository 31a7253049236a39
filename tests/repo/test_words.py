"""One word for one thing: words that were replaced do not come back, in code, comments, configuration and pages."""

import re

import pytest

from tests.support.pages import ROOT

REPLACED = {
    r"\bmargin\b(?![-:])": "padding",  # followed by either it is a page's style
    r"(?:\b|_)[Ff]igures\b(?! as SVG)": "metrics",  # what matplotlib draws are figures
    r"\"any class\"|\bany_class\b": "null class",
    r"\bKeyValues\b": "KVCache",
    r"\bresidual_hidden\b": "residual_width",
    r"\bcommitment[=:]": "commitment_cost",
    r"\bfactors?=": "downsample_factor",
    r"\btrainer=(?:auto|cpu|gpu|ddp|fsdp)\b": "hardware=",
    r"pipelines\.hardware\b": "pipelines.distributed",
}
"""Each with the word of today."""

ALLOWED = (
    "pipelines/config/migrations.py",  # the table of what had another name
    "tests/pipelines/config/test_migrations.py",
    "tests/pipelines/config/test_claims.py",
    "tests/pipelines/test_old_runs.py",
    "tests/old_runs/",
    "tests/repo/test_words.py",
    "CHANGELOG.md",
)

TEXTS = {
    name: path.read_text()
    for top in ("stage1_vqvae", "stage2_prior", "pipelines", "conf", "tests", "docs", "README.md", "CONTRIBUTING.md")
    for path in ([ROOT / top] if (ROOT / top).is_file() else sorted((ROOT / top).rglob("*")))
    if path.suffix in (".py", ".pyi", ".yaml", ".md", ".css", ".html", ".j2")
    and not (name := str(path.relative_to(ROOT))).startswith(ALLOWED)
}


@pytest.mark.parametrize("pattern", REPLACED)
def test_a_replaced_word_does_not_come_back(pattern):
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert not found, f"{REPLACED[pattern]} is the word: {found}"


def test_texts_are_read():
    assert {"conf/config.yaml", "pipelines/run.py", "docs/design.md"} <= set(TEXTS)
