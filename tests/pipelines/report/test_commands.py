import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example
from hypothesis import given as drawn
from hypothesis import strategies as st

from pipelines.report.commands import word

TEXT = st.text(st.characters(exclude_characters="$", exclude_categories=["C", "Z"]) | st.just(" "), min_size=1)


@drawn(TEXT | st.from_regex(r"[\\'\w./= -]+", fullmatch=True, alphabet=st.characters(codec="ascii")))
@example("123")
@example("null")
@example("runs/it's\\")
def test_overrides_survive_shell_and_hydra(path):
    (given,) = shlex.split(word("model", path))
    parsed = OverridesParser.create().parse_override(given)
    assert parsed.key_or_group == "model"
    assert parsed.value() == path


@pytest.mark.parametrize("label", [3, "a cat", [1, 2], ["a", "b"]])
def test_labels_survive_shell_and_hydra(label):
    (given,) = shlex.split(word("label", label))
    assert OverridesParser.create().parse_override(given).value() == label
