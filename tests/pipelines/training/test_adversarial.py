"""Two sides in one training: what public code gets wrong, each by itself."""

import pytest
import torch
from pytorch_lightning import Callback

from pipelines.distributed.hardware import Hardware
from pipelines.training.checkpoint_files import load_checkpoint, step_path
from pipelines.training.fit import fit
from pipelines.training.stage_trainer import StageTrainer
from tests.support.resuming import (
    At,
    Metrics,
    adversarial_training,
    assert_same,
    die,
    final_state,
    tokenizer_training,
    train,
)

ONSET = 3  # of adversarial_training; its term rises over the two steps after it


class Watch(Callback):
    """Keeps the state after every step, and how often the codebook stepped by then; may spoil one side's gradient."""

    def __init__(self, spoil=None, side="discriminator"):
        self.spoil, self.side = spoil, side
        self.seen, self.codebook_steps, self.norms = {}, {}, {}

    def on_train_start(self, trainer, pl_module):
        self.count = 0
        plain = pl_module.model.step

        def step():
            self.count += 1
            plain()

        pl_module.model.step = step

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step + 1 == self.spoil:
            next(getattr(pl_module, self.side).parameters()).grad.view(-1)[0] = float("nan")

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        for side in ("model", "discriminator"):
            gradients = [p.grad for p in getattr(pl_module, side).parameters() if p.grad is not None]
            if gradients:
                self.norms[trainer.global_step, side] = torch.nn.utils.get_total_norm(gradients).item()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        for place, moments in enumerate(trainer.optimizers[0].state.values()):
            state |= {f"moment {place} {name}": value.clone() for name, value in moments.items()}
        self.seen[trainer.global_step] = state
        self.codebook_steps[trainer.global_step] = self.count


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    watch, metrics, folder = Watch(), Metrics(), tmp_path_factory.mktemp("whole")
    train(adversarial_training(ONSET), folder, [watch], metrics)
    return watch, metrics, folder


def beginning(state, *names):
    return {name: value for name, value in state.items() if name.startswith(names)}


def test_the_onset_is_exact_and_nothing_jumps(whole, tmp_path):
    watch, metrics, _ = whole
    alone = Watch()
    alone.on_before_zero_grad = lambda *_: None
    train(tokenizer_training(), tmp_path, [alone])
    start = adversarial_training(ONSET).discriminator.state_dict(prefix="discriminator.")
    for step in range(1, ONSET + 1):
        assert_same(beginning(watch.seen[step], "discriminator."), start)
        assert len(watch.seen[step]) < len(watch.seen[ONSET + 1]), "moments of the discriminator begin at the onset"
    learned = beginning(watch.seen[ONSET + 1], "discriminator.")
    assert not any(torch.equal(learned[name], start[name]) for name in learned if name.endswith("original"))
    for step in range(1, 10):
        same = all(
            torch.equal(watch.seen[step][name], value) for name, value in beginning(alone.seen[step], "model.").items()
        )
        assert same == (step <= ONSET + 1), "the step of the onset only prepares the discriminator"
    losses = [value for (name, _), value in metrics.seen.items() if name.startswith("train/")]
    assert losses
    assert torch.isfinite(torch.tensor(losses)).all()


def test_steps_are_the_tokenizers_and_the_codebook_moves_once_in_each(whole):
    watch, _, _ = whole
    assert watch.codebook_steps == {step: step for step in range(1, 10)}
    assert watch.seen[9]["moment 0 step"] == 9
    assert max(state["step"] for state in moments_of_discriminator(watch.seen[9])) == 9 - ONSET


def moments_of_discriminator(state):
    places = {name.split()[1] for name in state if name.startswith("moment ")}
    steps = [{"step": state[f"moment {place} step"]} for place in places]
    return [found for found in steps if found["step"] < 9]


@pytest.mark.parametrize("side", ["discriminator", "model"])
def test_a_step_that_is_not_finite_on_one_side_leaves_both_as_they_were(side, tmp_path):
    watch = Watch(spoil=7, side=side)
    train(adversarial_training(ONSET), tmp_path, [watch], max_steps=8)
    before, after = watch.seen[6], watch.seen[7]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    # Power iterations look at weights alone.
    assert all(name.endswith(("._u", "._v")) for name in moved), moved
    assert watch.codebook_steps[7] == watch.codebook_steps[6]
    assert not torch.equal(watch.seen[8]["balance.weight"], before["balance.weight"])
    assert torch.isfinite(watch.seen[8]["balance.weight"])


def test_killed_is_not_killed_to_the_bit(tmp_path):
    options = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5, "precision": "bf16-mixed", "batch_size": 2}
    train(adversarial_training(ONSET), tmp_path / "whole", **options)
    for step in (ONSET + 1, 7):
        with pytest.raises(SystemExit):
            train(adversarial_training(ONSET), tmp_path / "killed", [At(die, step)], **options)
    train(adversarial_training(ONSET), tmp_path / "killed", **options)
    expected = final_state(tmp_path / "whole")
    assert_same(final_state(tmp_path / "killed"), expected)
    for name in ("balance.weight", "lecam.averages", "discriminator.layers.0.parametrizations.weight.original"):
        assert f".state_dict.{name}" in expected
    assert expected[".state_dict.balance.weight"] > 0


def test_each_side_is_clipped_by_its_own_norm(tmp_path):
    watch = Watch()
    train(adversarial_training(0), tmp_path, [watch], gradient_clip_val=0.01, max_steps=4)
    for side in ("model", "discriminator"):
        norms = [norm for (_, name), norm in watch.norms.items() if name == side]
        assert norms
        assert max(norms) == pytest.approx(0.01, rel=1e-3), side


def test_averages_are_of_the_tokenizer_alone(whole):
    _, _, folder = whole
    last = load_checkpoint(step_path(folder, 9))
    average, weights = last["state_dict"], last["current_model_state"]
    assert_same(beginning(average, "discriminator."), beginning(weights, "discriminator."))
    assert not torch.equal(average["model.encoder.layers.0.weight"], weights["model.encoder.layers.0.weight"])


def test_a_compiled_training_is_refused(tmp_path):
    hardware, settings = Hardware("cpu", 1, compile=True), StageTrainer(1, 1, 1)
    with pytest.raises(ValueError, match=r"hardware.compile=true does not go with AdversarialTraining"):
        fit("test", adversarial_training(), None, tmp_path, settings, hardware, [])
