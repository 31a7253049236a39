import json

import pytest
import torch
from pytorch_lightning import Callback

from pipelines.training import optimization
from pipelines.training.nonfinite import precision_advice, refuse_non_finite
from tests.support import two_ranks
from tests.support.resuming import (
    At,
    Metrics,
    assert_same,
    die,
    final_state,
    muon_training,
    prior_training,
    tokenizer_training,
    train,
)


class Spoil(Callback):
    """Spoils the gradient of one weight in the batches of some steps."""

    def __init__(self, steps, value):
        self.steps, self.value = steps, value
        self.seen = {}

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step + 1 in self.steps:
            next(pl_module.parameters()).grad.view(-1)[0] = self.value

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        optimizer = trainer.optimizers[0]
        moments = {
            f"moment {place} {name}": value.clone()
            for place, state in enumerate(optimizer.state.values())
            for name, value in state.items()
        }
        self.seen[trainer.global_step] = moments | {k: v.clone() for k, v in pl_module.model.state_dict().items()}


def nan_loss(module, steps):
    """The module with a loss that is not a number in some batches."""
    plain = module.training_step

    def training_step(batch, batch_idx):
        found = plain(batch, batch_idx)
        return {**found, "loss": found["loss"] * (float("nan") if batch_idx + 1 in steps else 1.0)}

    module.training_step = training_step
    return module


@pytest.mark.parametrize(
    ("precision", "said"),
    [("16-true", "above 65,504 are infinite"), ("16-mixed", "above 65,504"), ("bf16-true", "8 bits of precision")],
)
def test_a_precision_that_may_be_the_reason_is_named_first(precision, said):
    module = torch.nn.Linear(1, 1)
    refuse_non_finite(module, precision)
    torch.nn.init.constant_(module.weight, torch.inf)
    with pytest.raises(ValueError, match=f"hardware.precision={precision} .*{said}.* hardware.precision=bf16-mixed"):
        refuse_non_finite(module, precision)
    for plain in ("32-true", "bf16-mixed"):
        assert precision_advice(plain) == ""


@pytest.mark.parametrize("make", [tokenizer_training, prior_training, muon_training])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(make, value, tmp_path):
    spoil, metrics = Spoil({3, 6, 7}, value), Metrics()
    train(make(), tmp_path, [spoil], metrics, max_skipped=3)
    for step in (3, 6, 7):
        assert_same(spoil.seen[step], spoil.seen[step - 1])
    assert not torch.equal(*(next(iter(spoil.seen[step].values())) for step in (4, 5)))
    state = final_state(tmp_path)
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    assert all(torch.isfinite(value).all() for value in tensors)
    assert max(value for (name, _), value in metrics.seen.items() if name == "train/skipped") == 3


def test_the_average_does_not_count_a_skipped_step(tmp_path):
    train(prior_training(), tmp_path, [Spoil({2, 3}, float("nan"))], max_steps=5)
    assert int(final_state(tmp_path)[".averaging_state.n_averaged"]) == 3


def test_a_loss_that_is_not_finite_is_skipped_whichever_batch_of_the_step_has_it(tmp_path):
    train(nan_loss(tokenizer_training(), {3, 8}), tmp_path, max_steps=5, accumulate_grad_batches=2)
    state = final_state(tmp_path)
    counts = [value for name, value in state.items() if name.endswith(".skipped")]
    assert counts == [2]
    assert int(state[".current_model_state.model.quantizer.steps"]) == 3


@pytest.mark.parametrize("make", [tokenizer_training, prior_training])
def test_too_many_in_a_row_end_the_training_and_the_count_survives_a_kill(make, tmp_path):
    def attempt(*callbacks):
        train(make(), tmp_path, [Spoil({3, 4, 5, 6}, float("nan")), *callbacks], max_skipped=3, checkpoint_every=1)

    with pytest.raises(SystemExit):
        attempt(At(die, 4))
    with pytest.raises(ValueError, match=r"step 5: the loss .* was not finite for 3 steps in a row: lower") as caught:
        attempt()
    assert "\n" not in str(caught.value)


def test_a_kill_between_skipped_steps_changes_nothing(tmp_path):
    train(prior_training(), tmp_path / "whole", [Spoil({3, 5, 6}, float("nan"))])
    with pytest.raises(SystemExit):
        train(prior_training(), tmp_path / "killed", [Spoil({3, 5, 6}, float("nan")), At(die, 6)])
    train(prior_training(), tmp_path / "killed", [Spoil({3, 5, 6}, float("nan"))])
    assert_same(final_state(tmp_path / "killed"), final_state(tmp_path / "whole"))


@pytest.mark.parametrize("make", [tokenizer_training, prior_training, muon_training])
def test_an_optimiser_that_is_not_fused_is_skipped_too(make, tmp_path, monkeypatch):
    monkeypatch.setattr(optimization, "has_fused_adamw", lambda device: False)
    spoil = Spoil({2, 4}, float("nan"))
    train(make(), tmp_path, [spoil], max_steps=5)
    for step in (2, 4):
        assert_same(spoil.seen[step], spoil.seen[step - 1])
    assert not torch.equal(*(next(iter(spoil.seen[step].values())) for step in (4, 5)))


def test_ranks_talk_once_a_step(forked, tmp_path):
    """Beside the gradients, which DistributedDataParallel adds up by itself."""
    settings = {"max_steps": 6, "validate_every": 6, "checkpoint_every": 6}
    two_ranks.train("stage2", tmp_path, callbacks=[two_ranks.CountCollectives(tmp_path)], **settings)
    for rank in (0, 1):
        calls = json.loads((tmp_path / f"collectives-{rank}.json").read_text())
        assert calls[1:5] == [["all_reduce"]] * 4


@pytest.mark.parametrize("stage", ["stage2", "sharded"])
def test_a_gradient_that_is_not_finite_on_one_rank_is_skipped_on_both(stage, forked, tmp_path):
    weights = {}
    two_ranks.train(stage, tmp_path, callbacks=[two_ranks.Spoil(1, {2}, tmp_path)], max_steps=3, ema_decay=None)
    for rank in (0, 1):
        weights[rank] = [torch.load(tmp_path / f"weights-{step}-{rank}.pt") for step in (1, 2, 3)]
        first, second, third = weights[rank]
        assert torch.equal(first, second)
        assert not torch.equal(second, third)
        assert torch.isfinite(third).all()
    if stage == "stage2":
        assert torch.equal(weights[0][2], weights[1][2])
    assert [value for name, value in final_state(tmp_path).items() if name.endswith(".skipped")] == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_saved(value):
    module = torch.nn.BatchNorm1d(2)
    refuse_non_finite(module)
    with torch.no_grad():
        module.weight[1] = value
    with pytest.raises(ValueError, match="weight is not finite: nothing is saved"):
        refuse_non_finite(module)


def test_a_buffer_may_be_infinite_but_is_always_a_number():
    module = torch.nn.Module()
    module.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    refuse_non_finite(module)
    module.mask[0] = float("nan")
    with pytest.raises(ValueError, match="mask holds NaN"):
        refuse_non_finite(module)
