import numpy as np
import pytest
import torch

from pipelines.artifacts import load_tokenizer
from pipelines.generator import Generator


@pytest.fixture(scope="module")
def generator(tiny_run):
    return Generator.load(tiny_run, device="cpu")


def test_samples_have_the_contracts_shapes(generator):
    samples = generator.sample(5, label=3, seed=0)
    assert samples.images.shape == (5, 1, 28, 28)
    assert samples.images.min() >= 0
    assert samples.images.max() <= 1
    assert samples.codes.shape == (5, generator.layout.length)
    assert samples.codes.dtype == samples.labels.dtype == torch.int64
    assert samples.labels.tolist() == [3] * 5


def test_the_same_seed_gives_the_same_images_in_any_batches(generator):
    whole = generator.sample(7, seed=4, guidance=2.0)
    parts = generator.sample(7, seed=4, guidance=2.0, batch_size=3)
    assert torch.equal(whole.codes, parts.codes)
    torch.testing.assert_close(whole.images, parts.images, atol=1e-6, rtol=0)
    assert torch.equal(generator.sample(4, seed=4, guidance=2.0).codes, whole.codes[:4])
    assert not torch.equal(generator.sample(7, seed=5, guidance=2.0).codes, whole.codes)


def test_images_are_the_decoded_codes(generator):
    samples = generator.sample(3)
    torch.testing.assert_close(generator.decode(samples.codes), samples.images)
    codes = generator.encode(samples.images)
    assert codes.shape == samples.codes.shape


def test_log_prob_is_the_priors(generator):
    samples = generator.sample(4)
    nats = generator.log_prob(samples.codes, samples.labels)
    logits = generator.prior(samples.codes, samples.labels).log_softmax(-1)
    expected = logits.gather(-1, samples.codes[..., None]).sum((1, 2))
    np.testing.assert_allclose(nats.numpy(), expected.detach().numpy(), rtol=1e-4)


def test_classes_by_number_name_several_or_in_turn(generator):
    assert generator.labels(4).tolist() == [0, 1, 2, 3]
    assert generator.labels(2, "7").tolist() == [7, 7]
    assert generator.labels(3, [1, "2"]).tolist() == [1, 2, 1]


def test_recipe_settings_are_the_default(generator, tiny_run):
    _, saved = load_tokenizer(tiny_run / "tokenizer")
    assert generator.settings_with() == generator.settings
    assert generator.settings_with(temperature=0.5).temperature == 0.5
    assert saved.fingerprint


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"label": 10}, "label=10: classes are 0 to 9"),
        ({"label": "cat"}, "label=cat: classes are 0 to 9 or by name 0, 1, 2"),
        ({"temprature": 1}, "sampling has no setting 'temprature': there are temperature, top_k"),
        ({"top_p": 2}, "top_p is in"),
    ],
)
def test_mistakes_are_named(generator, wrong, message):
    with pytest.raises(ValueError, match=message):
        generator.sample(1, **wrong)


def test_foreign_codes_are_refused(generator):
    with pytest.raises(ValueError, match="codes of grid"):
        generator.decode(torch.full((1, generator.layout.length), 999))


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no finished tokenizer"):
        Generator.load(tmp_path)
