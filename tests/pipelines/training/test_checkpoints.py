import signal

import pytest
import torch
from pytorch_lightning import Callback

from pipelines.training.checkpoint_files import newest, steps_in
from tests.support.resuming import (
    At,
    Metrics,
    assert_same,
    die,
    final_state,
    prior_training,
    terminate,
    tokenizer_training,
    train,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted training leaves, by stage and batches per step."""
    known = {}

    def look(make, accumulate):
        if (make, accumulate) not in known:
            folder = tmp_path_factory.mktemp("whole")
            metrics = Metrics()
            weights, last = train(make(), folder, metrics=metrics, accumulate_grad_batches=accumulate)
            known[make, accumulate] = weights, last, final_state(folder), metrics.seen
        return known[make, accumulate]

    return look


def interrupted(make, folder, *interruptions, **options):
    """Train, stopped at each of the interruptions in turn, until it is done."""
    metrics = Metrics()
    for interruption in interruptions:
        with pytest.raises(SystemExit):
            train(make(), folder, [interruption], metrics, **options)
    weights, last = train(make(), folder, metrics=metrics, **options)
    return weights, last, final_state(folder), metrics.seen


def assert_all_same(found, expected):
    assert_same(found[0], expected[0])
    assert found[1] == expected[1]
    assert_same(found[2], expected[2])
    assert found[3] == expected[3]


WHERE = [(1, None), (4, None), (5, None), (8, 0), (9, None), (4, 0), (4, 2)]


@pytest.mark.parametrize(("step", "batch"), WHERE)
@pytest.mark.parametrize("action", [die, terminate])
def test_an_interruption_changes_no_bit(action, step, batch, whole, tmp_path):
    # Each place with one of the stages and numbers of batches per step, all of them over the places.
    make = (prior_training, tokenizer_training)[(step + (action is die)) % 2]
    accumulate = 1 + (step + (batch or 0)) % 2
    found = interrupted(make, tmp_path, At(action, step, batch), accumulate_grad_batches=accumulate)
    assert_all_same(found, whole(make, accumulate))


def test_an_interruption_changes_no_bit_with_workers(whole, tmp_path):
    found = interrupted(tokenizer_training, tmp_path, At(die, 5), workers=2)
    assert_all_same(found, whole(tokenizer_training, 1))


def test_interruptions_of_a_training_that_just_went_on(whole, tmp_path):
    interruptions = [At(die, 3), At(terminate, 3), At(terminate, 4, 1), At(die, 4, 0), At(terminate, 5), At(die, 6)]
    found = interrupted(prior_training, tmp_path, *interruptions, accumulate_grad_batches=2)
    assert_all_same(found, whole(prior_training, 2))


def test_being_asked_to_stop_saves_the_step(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        train(prior_training(), tmp_path, [At(terminate, 3)])
    assert stopped.value.code == 128 + signal.SIGTERM
    assert newest(tmp_path).step == 3
    assert "stopped by SIGTERM after step 3" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_checkpoint_written_in_a_validation_knows_the_average_from_the_weights(tmp_path):
    with pytest.raises(SystemExit):
        train(tokenizer_training(), tmp_path / "in", [At(terminate, 4, 1)])
    with pytest.raises(SystemExit):
        train(tokenizer_training(), tmp_path / "before", [At(terminate, 4)])
    assert_same(final_state(tmp_path / "in"), final_state(tmp_path / "before"))


def test_a_training_that_a_callback_ends_early_keeps_its_last_step(tmp_path):
    class Enough(Callback):
        def on_train_batch_end(self, trainer, *arguments):
            trainer.should_stop = trainer.global_step == 3

    weights, _ = train(tokenizer_training(), tmp_path, [Enough()])
    assert newest(tmp_path).step == 3
    name = "decoder.layers.0.bias"
    assert torch.equal(weights[name], final_state(tmp_path)[f".state_dict.model.{name}"])


def test_old_checkpoints_go_and_the_best_stay(tmp_path):
    train(prior_training(), tmp_path, checkpoint_every=1, validate_every=3)
    steps = steps_in(tmp_path)
    assert steps[:2] == [9, 8]
    assert len(steps) <= 4
    assert all(step % 3 == 0 for step in steps[2:])
    assert all(torch.load(path, weights_only=True) for path in tmp_path.glob("*.ckpt"))
