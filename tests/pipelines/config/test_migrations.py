"""Names of earlier versions: what they are called today exists, and a command line that has them is told."""

import re

import pytest

from pipelines.config.compose import Asked, composed_settings
from pipelines.config.conf import groups
from pipelines.config.migrations import MOVED, RENAMED, RENAMED_GROUPS
from pipelines.config.signatures import read_signature


def test_what_things_are_called_today_is_there():
    for target in MOVED.values():
        read_signature(target)  # raises where there is none
    for target, keys in RENAMED.items():
        signature = read_signature(target)
        assert not set(keys) & set(signature), target
        assert set(keys.values()) <= set(signature), target
    assert set(RENAMED_GROUPS.values()) <= set(groups())
    assert not set(RENAMED_GROUPS) & set(groups())


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("config", {"trainer": "gpu"}, "trainer: no such key; it is called hardware now"),
        ("config", {"hardware.sharing": "fsdp"}, "hardware.sharing: no such key; it is called hardware.strategy now"),
        (
            "config",
            {"stage2.trainer.average": 0.9},
            "stage2.trainer.average: no such key; it is called stage2.trainer.ema_decay now",
        ),
        (
            "config",
            {"stage2": "pixelcnn", "stage2.model.channels": 8},
            "stage2.model.channels: no such key; it is called stage2.model.width now",
        ),
        ("config", {"stage2.trainer.ema_deca": 0.9}, "stage2.trainer.ema_deca: no such key; did you mean ema_decay?"),
    ],
)
def test_an_old_key_is_refused_with_its_name_of_today(command, given, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        composed_settings(command, Asked.of(given), {})
