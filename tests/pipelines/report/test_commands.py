import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.report.commands import override

TEXT = st.text(st.characters(exclude_characters="$", exclude_categories=["C", "Z"]) | st.just(" "), min_size=1)


@given(TEXT | st.from_regex(r"[\\'\w./= -]+", fullmatch=True, alphabet=st.characters(codec="ascii")))
@example("123")
@example("null")
@example("runs/it's\\")
def test_overrides_survive_shell_and_hydra(path):
    (word,) = shlex.split(override("model", path))
    parsed = OverridesParser.create().parse_override(word)
    assert parsed.key_or_group == "model"
    assert parsed.value() == path


@pytest.mark.parametrize("label", [3, "a cat", [1, 2], ["a", "b"]])
def test_labels_survive_shell_and_hydra(label):
    (word,) = shlex.split(override("label", label))
    assert OverridesParser.create().parse_override(word).value() == label
