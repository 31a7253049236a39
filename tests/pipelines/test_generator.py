import io
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.artifacts.models import load_tokenizer
from pipelines.generator import DECODED, Generator
from pipelines.tasks.sample import say_guidance
from stage1_vqvae import VQVAE
from stage1_vqvae.files import read_yaml, write_yaml
from stage1_vqvae.quantizers import EMAVectorQuantizer, Residual
from stage2_prior.sampling.batch_invariance import BASE
from stage2_prior.transformer.model import Transformer
from tests.support.small_priors import build


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


@pytest.mark.parametrize("batch_size", [1, BASE, BASE + 1])
def test_the_same_seed_gives_the_same_images_in_any_batches(generator, batch_size):
    n = 2 * BASE + 3
    whole = generator.sample(n, seed=4, guidance=2.0, batch_size=1000)
    batches = generator.sample(n, seed=4, guidance=2.0, batch_size=batch_size)
    assert torch.equal(whole.codes, batches.codes)
    assert torch.equal(whole.images, batches.images)
    assert not torch.equal(generator.sample(n, seed=5, guidance=2.0).codes, whole.codes)


@pytest.mark.parametrize(("first", "n"), [(0, 1), (3, 5), (BASE - 1, 3), (BASE, 2)])
def test_images_from_a_later_one_on_are_those_of_all(generator, first, n):
    whole = generator.sample(BASE + 2, seed=4, top_p=0.9)
    part = generator.sample(n, seed=4, top_p=0.9, first=first)
    assert torch.equal(part.codes, whole.codes[first : first + n])
    assert torch.equal(part.images, whole.images[first : first + n])
    assert torch.equal(part.labels, whole.labels[first : first + n])


def test_progress_counts_images(generator):
    counts = []
    generator.sample(BASE + 4, batch_size=1000, progress=counts.append)
    assert sum(counts) == BASE + 4
    assert min(counts) > 0


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
    np.testing.assert_allclose(samples.log_probs.sum(1).numpy(), nats.numpy(), rtol=1e-4)


def test_many_images_are_computed_in_micro_batches(generator, monkeypatch):
    seen = []

    def watch(owner, name):
        inner = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda rows, *rest: seen.append((name, len(rows))) or inner(rows, *rest))

    for owner, name in (
        (generator.tokenizer, "encode"),
        (generator.tokenizer, "decode"),
        (generator.prior, "log_prob"),
    ):
        watch(owner, name)
    codes = generator.encode(torch.rand(2 * DECODED + 3, 1, 28, 28))
    generator.decode(codes)
    generator.log_prob(codes, 0)
    assert sorted(seen) == [(name, DECODED) for name in ("decode", "encode", "log_prob") for _ in range(3)]


def test_classes_by_number_name_several_or_in_turn(generator):
    assert generator.labels(4).tolist() == [0, 1, 2, 3]
    assert generator.labels(2, "7").tolist() == [7, 7]
    assert generator.labels(3, [1, "2"]).tolist() == [1, 2, 1]


def test_lower_precision_is_that_of_the_prior_alone(generator):
    lower = generator.sample(5, seed=1, precision="bfloat16")
    generator.layout.check(lower.codes)
    assert {
        parameter.dtype for model in (generator.prior, generator.tokenizer) for parameter in model.parameters()
    } == {torch.float32}
    torch.testing.assert_close(lower.images, generator.decode(lower.codes))
    last = generator.sample(2, seed=1, first=3, precision="bfloat16")
    assert torch.equal(last.codes, lower.codes[3:])
    assert torch.equal(last.images, lower.images[3:])


def test_recipe_settings_are_the_default(generator, tiny_run):
    _, saved = load_tokenizer(tiny_run / "tokenizer")
    assert generator.settings_with() == generator.settings
    assert generator.settings_with(temperature=0.5).temperature == 0.5
    assert saved.fingerprint


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"label": 10}, "label=10: classes are 0 to 9"),
        ({"label": []}, "label=\\[\\]: one class at least"),
        ({"label": "cat"}, "label=cat: classes are 0 to 9"),
        ({"label": True}, "label=True: classes are 0 to 9"),
        ({"label": -7}, "label=-7: classes are 0 to 9"),
        ({"n": 2.0}, "n is a whole number, at least 1, got 2.0"),
        ({"seed": None}, r"seed is a whole number, from 0 to 2\^64 - 1, got None"),
        ({"seed": 1.5}, "seed is a whole number, from 0"),
        ({"temprature": 1}, "sampling.temprature: no such key; did you mean temperature?"),
        ({"top_k": 2.5}, r"sampling.top_k: int or null expected, got 2.5"),
        ({"top_p": 2}, "top_p is in"),
        ({"batch_size": 0}, "batch_size is at least 1, got 0"),
        ({"first": -1}, "first is at least 0, got -1"),
        ({"seed": -1}, "seed is from 0"),
    ],
)
def test_mistakes_are_named(generator, wrong, message):
    with pytest.raises(ValueError, match=message):
        generator.sample(**{"n": 1, **wrong})


def test_guidance_of_a_prior_without_classes_is_said_to_change_nothing(generator, capsys):
    without = replace(generator, prior=build(Transformer, generator.layout, classes=0), class_names=())
    with pytest.warns(UserWarning, match="guidance=3 changes nothing: the prior has no classes") as said:
        guided = without.sample(2, guidance=3.0, temperature=0.5)
    assert said[0].filename == __file__
    with pytest.warns(UserWarning, match="guidance=2 changes nothing"):
        without.complete(guided.codes, "top", guidance=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(without.sample(2, guidance=1.0, temperature=0.5).codes, guided.codes)
        generator.sample(1, guidance=3.0)
    say_guidance(replace(without, settings=replace(without.settings, guidance=1.25)), {})  # the recipe asks it
    say_guidance(without, {"guidance": 1.0})
    say_guidance(generator, {"guidance": 3.0})
    assert capsys.readouterr().out == "! guidance=1.25 changes nothing: the prior has no classes\n"


def test_at_least_one_image(generator):
    with pytest.raises(ValueError, match="n is at least 1, got 0"):
        generator.sample(0)


def test_foreign_codes_are_refused(generator):
    with pytest.raises(ValueError, match="codes of grid"):
        generator.decode(torch.full((1, generator.layout.length), 999))


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no finished tokenizer"):
        Generator.load(tmp_path)


def test_numbers_and_labels_of_other_libraries_are_taken(generator):
    expected = generator.sample(3, label=[1, 2], seed=5)
    for label in (np.array([1, 2]), torch.tensor([1, 2]), ["1", "2"], (np.int64(1), 2)):
        assert generator.sample(np.int64(3), label=label, seed=torch.tensor(5)) == expected
    assert generator.sample(2, label=-1).labels.tolist() == [-1, -1]


def test_images_in_any_form_give_the_same_codes(generator):
    images = generator.sample(4).images_uint8  # [4, 28, 28, 1]
    expected = generator.encode(images)
    for form in (images[..., 0], images / 255, torch.from_numpy(images).movedim(-1, 1), list(images)):
        assert torch.equal(generator.encode(form), expected)
    assert torch.equal(generator.encode(images[2]), expected[2:3])
    assert torch.equal(generator.reconstruct(images), generator.decode(expected))
    many = np.concatenate([images] * 9)
    assert torch.equal(generator.encode(many), expected.repeat(9, 1))


def test_labels_of_likelihoods_and_completions(generator):
    samples = generator.sample(4, label=2)
    nats = generator.log_prob(samples.codes, samples.labels)
    for labels in (2, "2", [2] * 4, samples.labels.numpy()):
        assert torch.equal(generator.log_prob(samples.codes.numpy(), labels), nats)
    assert torch.equal(generator.log_prob(samples.codes), generator.log_prob(samples.codes, -1))
    with pytest.raises(ValueError, match="label=10: classes are 0 to 9"):
        generator.log_prob(samples.codes, 10)
    mask = np.arange(generator.layout.length) < 8
    assert generator.complete(samples.codes.numpy(), mask, "2").labels.tolist() == [2] * 4
    with pytest.raises(ValueError, match="label=11: classes"):
        generator.complete(samples.codes, mask, torch.tensor([11] * 4))


def test_samples_are_a_sequence_that_compares_and_shows_itself(generator):
    samples = generator.sample(5)
    assert len(samples) == 5
    assert samples == generator.sample(5)
    assert samples != generator.sample(5, seed=1)
    assert samples[1:3] + samples[[3, -1]] == samples[1:]
    assert [len(one) for one in samples] == [1] * 5
    assert samples[4] == samples[-1]
    with pytest.raises(IndexError):
        samples[5]
    assert repr(samples) == "Samples(5 images of 28×28×1, 16 codes each)"
    assert samples.images_uint8.dtype == np.uint8
    assert len(repr(generator).splitlines()) == 3
    assert "28×28 images, grey, 10 classes" in repr(generator)


def test_samples_as_pictures_files_and_a_data_set(generator, tmp_path):
    samples = generator.sample(5)
    pixels = samples.images_uint8
    assert np.array_equal(np.stack([np.asarray(one) for one in samples.to_pil()]), pixels[..., 0])
    samples.save(tmp_path / "below" / "grid.png", columns=2)
    picture = Image.open(tmp_path / "below" / "grid.png")
    zoom = picture.width // 62  # two images of 28 pixels and three gaps of 2
    assert picture.size == (62 * zoom, 92 * zoom)
    assert np.array_equal(np.asarray(picture)[::zoom, ::zoom][62:90, 2:30], pixels[4, ..., 0])
    samples.save(tmp_path / "samples.npz")
    assert np.array_equal(np.load(tmp_path / "samples.npz")["images"], pixels)
    rows = samples.to_dataset()
    assert rows.column_names == ["image", "label", "codes"]
    assert np.array_equal(np.asarray(rows[3]["image"]), pixels[3, ..., 0])
    assert rows[3]["codes"] == samples.codes[3].tolist()
    shown = Image.open(io.BytesIO(samples._repr_png_()))
    assert shown.format == "PNG"
    with pytest.raises(ValueError, match=r"path=x.txt: a name that ends in .png or .npz expected"):
        samples.save("x.txt")


def test_metrics_codebook_and_counts_are_those_of_numpy(generator):
    images = generator.sample(6).images_uint8
    metrics = generator.metrics(images)
    decoded = generator.reconstruct(images).numpy().transpose(0, 2, 3, 1)
    mse = ((2 * (decoded - images / 255.0)) ** 2).mean()
    assert metrics["mse"] == pytest.approx(mse, rel=1e-4)
    assert metrics["psnr"] == pytest.approx(10 * np.log10(4 / mse), rel=1e-4)
    codes = generator.encode(images).numpy()
    (counts,) = generator.code_counts(codes)
    assert counts.tolist() == np.bincount(codes.ravel(), minlength=16).tolist()
    assert metrics["usage"] == len(np.unique(codes)) / 16
    (vectors,) = generator.codebook
    assert vectors.shape == (16, 4)
    latents = generator.tokenizer.levels[0].lookup(torch.from_numpy(codes).view(6, 4, 4))
    assert np.array_equal(latents.permute(0, 2, 3, 1).reshape(6, 16, 4).numpy(), vectors.numpy()[codes])


def test_the_codebooks_of_several_depths_add_up():
    tokenizer = VQVAE((8, 8), 1, Residual(EMAVectorQuantizer(4, 6), depth=3), width=8, downsample_factor=4).eval()
    codes = torch.randint(0, 6, (5, 12))
    books = tokenizer.codebooks()
    zero = sum(book[0] for book in books) / 3
    found = sum(book[codes[:, 4 * depth : 4 * depth + 4]] for depth, book in enumerate(books)) - 2 * zero
    latents = tokenizer.levels[0].lookup(codes.view(5, 3, 2, 2).permute(0, 2, 3, 1))
    torch.testing.assert_close(latents.flatten(2).transpose(1, 2), found)


def test_a_file_in_a_run_is_no_run(tiny_run):
    with pytest.raises(ValueError, match="is a file: give the run's folder"):
        Generator.load(tiny_run / "report.html")


def test_a_prefix_is_gone_on_from(generator):
    whole = generator.sample(4, seed=2)
    same = generator.sample(4, seed=2, prefix=whole.codes[:, :5])
    assert torch.equal(same.codes, whole.codes)
    one = generator.sample(4, seed=2, prefix=whole.codes[0, :5].tolist())
    assert torch.equal(one.codes[:, :5], whole.codes[:1, :5].expand(4, -1))
    assert torch.equal(generator.sample(2, seed=2, first=2, prefix=whole.codes[2:, :5]).codes, whole.codes[2:])


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (torch.zeros(3), r"prefix: integers \[t\] or \[2, t\] with t from 1 to 16 expected, got torch.float32 \[3\]"),
        (torch.zeros(3, 4, dtype=torch.int64), r"got torch.int64 \[3, 4\]"),
        ([], r"got torch.float32 \[0\]"),
        (torch.full((4,), 999), "codes of grid"),
    ],
)
def test_a_prefix_that_does_not_fit_is_refused(generator, prefix, message):
    with pytest.raises(ValueError, match=message):
        generator.sample(2, prefix=prefix)


def test_codes_are_seen_while_they_are_drawn(generator):
    seen = {}

    def watch(images, codes):
        seen.update(zip(images, codes, strict=True))

    samples = generator.sample(3, first=1, on_position=watch)
    assert torch.equal(torch.stack([seen[image] for image in (1, 2, 3)]), samples.codes)
    with pytest.raises(ValueError, match="prefix and on_position are for images of the run's own size"):
        generator.sample(1, image_size=(28, 60), on_position=watch)


def test_classes_without_training_images_are_not_drawn(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    config = read_yaml(folder / "prior" / "config.yaml")
    assert config["class_counts"] == [450] * 10
    counts = [0, 450, 0, 0, 450, *[0] * 5]
    write_yaml(folder / "prior" / "config.yaml", {**config, "class_counts": counts})
    generator = Generator.load(folder, "cpu")
    assert generator.sample(5).labels.tolist() == [1, 4, 1, 4, 1]
    assert generator.sample(2, label=[4, "1"]).labels.tolist() == [4, 1]
    with pytest.raises(ValueError, match="label=3: the class 3 has no training images; classes that have some: 1, 4"):
        generator.sample(1, label=3)
    whole = Generator.load(tiny_run, "cpu")
    assert generator.fingerprint == whole.fingerprint
    del config["class_counts"]  # as version 0.1.0 wrote it
    write_yaml(folder / "prior" / "config.yaml", config)
    assert Generator.load(folder, "cpu").sample(3).labels.tolist() == [0, 1, 2]
