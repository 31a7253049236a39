import pytest

from pipelines.config.conf import groups
from pipelines.config.schema import check_settings, keys_of_command
from tests.repo.test_conf import options
from tests.support.tiny import compose


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("+optput=x", r"^optput: no such key; did you mean output\?"),
        ("+stage1.batchsize=3", r"^stage1.batchsize: no such key; did you mean batch_size\?"),
        ("+stage2.dropuot=3", r"^stage2.dropuot: no such key; did you mean "),
        ("+codes.copy=3", r"^codes.copy: no such key; did you mean copies\?"),
        ("stage1.batch_size=many", r"^stage1.batch_size: int expected, got 'many'"),
        ("stage2.label_dropout=some", r"^stage2.label_dropout: float expected, got 'some'"),
        ("codes.copies=1.5", r"^codes.copies: int expected, got 1.5"),
        ("callbacks.stage1=3", r"^callbacks.stage1: list of mapping expected, got 3"),
        ("trust=me", r"^trust: list of str expected, got 'me'"),
        ("debug=1", r"^debug: bool expected, got 1"),
    ],
)
def test_what_nothing_reads_or_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(compose(change), "config")


@pytest.mark.parametrize(
    ("command", "needed"),
    [("config", []), ("sample", ["model=x"]), ("complete", ["model=x", "images=x"]), ("reconstruct", ["model=x"])],
)
def test_every_commands_own_keys_are_known(command, needed):
    check_settings(compose(*needed, command=command), command)
    assert "debug" in keys_of_command(command)[""]


def test_groups_are_named_as_overrides_name_them():
    assert {"data", "stage1", "stage1/quantizer", "stage2", "experiment"} <= set(groups())
    assert all(options(group) for group in groups())
