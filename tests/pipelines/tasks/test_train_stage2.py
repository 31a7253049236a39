import shutil
from pathlib import Path

import pytest

from pipelines.tasks.train_stage2 import train_stage2
from stage2_prior import PriorTraining
from stage2_prior.random_order import RandomOrder
from tests.support.tiny import TINY, compose


def test_training_is_as_the_settings_say(tiny_run, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stopped(*arguments, **options):
        raise Stop(arguments[1])

    def begun(*words):
        with pytest.raises(Stop) as stop:
            train_stage2(compose(*TINY, f"output={tmp_path}", *words))
        (module,) = stop.value.args
        assert isinstance(module, PriorTraining)
        return module

    for part in ("tokenizer", "codes"):
        shutil.copytree(Path(tiny_run) / part, tmp_path / part)
    monkeypatch.setattr("pipelines.tasks.train_stage2.fit", stopped)
    assert begun().random_order is None
    again = "stage2.model.activation_checkpointing=true"
    module = begun("stage2.random_order=[0.25,0.5]", "stage2.label_dropout=0.3", again)
    assert module.random_order == RandomOrder(0.25, 0.5)
    assert module.label_dropout == 0.3
    assert module.model.activation_checkpointing
