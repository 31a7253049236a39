import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.sampling.guidance import GuidedSteps, idle_guidance, is_guided
from stage2_prior.sampling.sampler import classes_in_turn, image_noise, sample, sample_images
from stage2_prior.sampling.settings import SamplingSettings
from tests.support.small_priors import build


def test_guidance_of_scale_one_is_the_prior_itself(prior):
    labels, noise = torch.tensor([0, 1]), image_noise(0, range(2), 6)
    plain = sample(prior, labels, noise).codes
    assert torch.equal(sample(prior, labels, noise, SamplingSettings(guidance_schedule="linear")).codes, plain)
    own, guided = GuidedSteps(prior, labels, SamplingSettings(guidance_schedule="linear")).next(None)
    assert torch.equal(own, guided)
    with torch.no_grad():
        torch.testing.assert_close(own, prior(plain, labels)[:, 0])


def test_guidance_without_classes_changes_nothing(prior):
    model = build(type(prior), classes=0)
    labels, noise = torch.tensor([-1, -1]), image_noise(0, range(2), 6)
    guided, plain = (sample(model, labels, noise, SamplingSettings(guidance=scale)) for scale in (3.0, 1.0))
    assert torch.equal(guided.codes, plain.codes)


def test_guidance_is_idle_without_classes_alone(prior):
    without, strong, off = build(type(prior), classes=0), SamplingSettings(guidance=3.0), SamplingSettings()
    assert idle_guidance(without, strong) == "guidance=3 changes nothing: the prior has no classes"
    assert idle_guidance(without, off) == idle_guidance(prior, strong) == ""
    assert [is_guided(*each) for each in ((prior, strong), (prior, off), (without, strong))] == [True, False, False]


def test_guidance_of_the_null_class_costs_nothing(prior, monkeypatch):
    incremental, batches = prior.incremental, []

    def counting(labels):
        batches.append(len(labels))
        return incremental(labels)

    monkeypatch.setattr(prior, "incremental", counting)
    plain, guided = (SamplingSettings(guidance=scale, microbatch_size=4) for scale in (1.0, 3.0))
    found, expected = (sample_images(prior, torch.tensor([-1, -1]), 0, settings=each) for each in (guided, plain))
    assert torch.equal(found.codes, expected.codes)
    assert batches == [4, 4]
    batches.clear()
    sample_images(prior, torch.tensor([-1, 0]), 0, settings=guided)
    assert sorted(batches) == [4, 8]


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_guidance_is_its_equation(prior, schedule):
    labels, codes = torch.tensor([0, 1]), torch.tensor([[4, 0, 1, 2, 3, 0], [1, 1, 1, 0, 0, 2]])
    scale = {"constant": 2.5, "linear": torch.tensor([1.0, 1.3, 1.6, 1.9, 2.2, 2.5])[:, None]}[schedule]
    with torch.no_grad():
        conditional, unconditional = prior(codes, labels).log_softmax(-1), prior(codes).log_softmax(-1)
        expected = (unconditional + scale * (conditional - unconditional)).softmax(-1)
        steps = GuidedSteps(prior, labels, SamplingSettings(guidance=2.5, guidance_schedule=schedule))
        own, guided = zip(*(steps.next(codes[:, t - 1] if t else None) for t in range(6)), strict=True)
    torch.testing.assert_close(torch.stack(guided, 1).softmax(-1), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.stack(own, 1).log_softmax(-1), conditional, atol=1e-5, rtol=1e-4)


def test_guidance_of_several_codebooks(prior):
    layout = CodeLayout(((1, 2), (2, 2)), (3, 5))
    model, chosen = build(type(prior), layout), SamplingSettings(guidance=4.0, guidance_schedule="linear")
    codes = sample_images(model, classes_in_turn(40, range(2)), 0, settings=chosen).codes
    layout.check(codes)
    assert codes[:, 2:].max() == 4


def test_a_prefix_and_other_rows_are_those_of_both(prior):
    labels, codes, rows = torch.tensor([0, 1, -1]), torch.randint(5, (3, 6)), torch.tensor([1, 1, 0])
    chosen = SamplingSettings(guidance=2.0, guidance_schedule="linear")
    plain, short = GuidedSteps(prior, labels, chosen), GuidedSteps(prior, labels, chosen)
    found = [plain.next(codes[:, t - 1] if t else None) for t in range(4)]
    short.prefill(codes[:, :3])
    for part, expected in zip(short.next(codes[:, 2]), found[3], strict=True):
        torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)
    short.select(rows)
    for part, expected in zip(short.next(codes[rows, 3]), plain.next(codes[:, 3]), strict=True):
        torch.testing.assert_close(part, expected[rows], atol=1e-5, rtol=1e-5)
