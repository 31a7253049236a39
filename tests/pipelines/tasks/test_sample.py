import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.artifacts.sample_parts import Parts
from pipelines.distributed import collectives
from pipelines.generator import Generator
from pipelines.tasks import sample
from pipelines.tasks.sample import default_name, sample_command, write_samples
from stage1_vqvae.data.augmentation import to_uint8
from stage1_vqvae.files import read_yaml
from stage2_prior.sampling.batch_invariance import BASE
from tests.support.distributed import on_two_new_ranks
from tests.support.tiny import compose

N = 3 * BASE + 4


@pytest.fixture(scope="module")
def generator(tiny_run):
    return Generator.load(tiny_run, device="cpu")


def settings_of(tiny_run, output, **changes):
    changes = {"n": N, "batch_size": BASE, "seed": 3, **changes}
    words = [f"{name}={value}" for name, value in changes.items()]
    return compose(f"model={tiny_run}", f"output={output}", *words, command="sample")


@pytest.fixture(scope="module")
def reference(tiny_run, tmp_path_factory):
    """The folder of a set that one process drew without a break, with min-p and rising guidance."""
    output = tmp_path_factory.mktemp("samples") / "reference"
    sample_command(settings_of(tiny_run, output, min_p=0.05, guidance=3.0, guidance_schedule="linear"))
    return output


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def resume(tiny_run, output, **changes):
    sample_command(
        settings_of(tiny_run, output, min_p=0.05, guidance=3.0, guidance_schedule="linear", **changes),
    )


def test_what_is_written(reference, generator):
    assert set(files(reference)) == {"grid.png", "images.npz", "settings.yaml"}
    assert Image.open(reference / "grid.png").width >= 300
    drawn = generator.sample(N, seed=3, min_p=0.05, guidance=3.0, guidance_schedule="linear")
    with np.load(reference / "images.npz") as arrays:
        assert np.array_equal(arrays["images"], to_uint8(drawn.images * 2 - 1).numpy())
        assert np.array_equal(arrays["codes"], drawn.codes.numpy())
        assert np.array_equal(arrays["labels"], np.arange(N) % 10)
    claimed = read_yaml(reference / "settings.yaml")
    assert (claimed["min_p"], claimed["guidance_schedule"]) == (0.05, "linear")
    assert claimed["prior"] == generator.fingerprint


@pytest.mark.parametrize("batch_size", [1, 2 * BASE + 1, 1000])
def test_the_same_files_for_any_batch_size(reference, tiny_run, tmp_path, batch_size):
    resume(tiny_run, tmp_path / "made", batch_size=batch_size)
    assert files(tmp_path / "made") == files(reference)


def killed_after(parts, monkeypatch):
    """Let the next command die once it has written so many parts."""
    write, written = Parts.write, []

    def limited(self, first, samples):
        if len(written) == parts:
            raise KeyboardInterrupt
        written.append(first)
        write(self, first, samples)

    monkeypatch.setattr(Parts, "write", limited)
    return written


def test_goes_on_after_a_kill_in_batches_of_any_size(reference, tiny_run, tmp_path, monkeypatch):
    output = tmp_path / "made"
    with monkeypatch.context() as context:
        killed_after(2, context)
        with pytest.raises(KeyboardInterrupt):
            resume(tiny_run, output)
    assert not (output / "images.npz").exists()
    with monkeypatch.context() as context:
        written = killed_after(99, context)
        resume(tiny_run, output)
        assert written == [2 * BASE, 3 * BASE]
    assert files(output) == files(reference)


def test_goes_on_in_other_batches(reference, tiny_run, tmp_path, monkeypatch):
    output = tmp_path / "made"
    with monkeypatch.context() as context:
        killed_after(1, context)
        with pytest.raises(KeyboardInterrupt):
            resume(tiny_run, output)
    resume(tiny_run, output, batch_size=2 * BASE)
    assert files(output) == files(reference)


def test_a_kill_while_the_parts_are_put_together(reference, tiny_run, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    output = tmp_path / "made"
    with monkeypatch.context() as context:
        context.setattr(Parts, "assemble", die)
        with pytest.raises(KeyboardInterrupt):
            resume(tiny_run, output)
    with monkeypatch.context() as context:
        context.setattr(Generator, "sample", die)
        resume(tiny_run, output)
    assert files(output) == files(reference)


def _share(rank, settings):
    torch.set_num_threads(1 + rank)
    sample_command(settings)
    return collectives.ranks()


def test_two_processes_give_the_files_of_one(reference, tiny_run, tmp_path):
    words = {"min_p": 0.05, "guidance": 3.0, "guidance_schedule": "linear"}
    assert on_two_new_ranks(_share, settings_of(tiny_run, tmp_path / "made", **words)) == [2, 2]
    assert files(tmp_path / "made") == files(reference)


def test_processes_share_a_set_smaller_than_a_batch(generator, tiny_run, tmp_path, monkeypatch):
    """Rank 1 of 2 draws the second half and leaves the first to the other."""
    monkeypatch.setattr(collectives, "rank", lambda: 1)
    monkeypatch.setattr(collectives, "ranks", lambda: 2)
    parts = Parts(tmp_path)
    settings = settings_of(tiny_run, None, n=2 * BASE, batch_size=1000)
    sample.draw_parts(generator, parts, settings, {})
    assert parts.missing(2 * BASE, BASE) == [range(BASE)]


def test_what_is_done_is_not_done_again(reference, tiny_run, capsys):
    before = files(reference)
    (reference / "parts").mkdir()
    resume(tiny_run, reference)
    assert "already drawn" in capsys.readouterr().out
    assert files(reference) == before
    assert not (reference / "parts").exists()


def test_samples_of_another_prior_or_other_settings_stay(reference, generator, tiny_run):
    with pytest.raises(ValueError, match=r"other settings \(seed: 3, now 4"):
        resume(tiny_run, reference, seed=4)
    other = Generator(generator.tokenizer, generator.prior, generator.class_names, generator.settings, "another")
    asked = {"min_p": 0.05, "guidance": 3.0, "guidance_schedule": "linear"}
    with pytest.raises(ValueError, match=r"prior: .*, now another"):
        write_samples(other, reference, settings_of(tiny_run, reference), asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n is at least 1, got 0"),
        ({"batch_size": 0}, "batch_size is at least 1, got 0"),
        ({"seed": -1}, "seed is from 0 to 2\\^64 - 1, got -1"),
        ({"label": 10}, "label=10: classes are 0 to 9"),
        ({"min_p": 2}, "min_p is in"),
        ({"temperature": "hot"}, "sampling.temperature: float expected, got 'hot'"),
        (
            {"guidance_schedule": "cosine"},
            "sampling.guidance_schedule: constant or linear or power_cosine expected, got 'cosine'",
        ),
        ({"precision": "half"}, "sampling.precision: float32 or bfloat16 expected, got 'half'"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tiny_run, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        sample_command(settings_of(tiny_run, tmp_path / "made", **change))
    assert not (tmp_path / "made").exists()


def test_a_single_image(tiny_run, tmp_path, reference):
    sample_command(settings_of(tiny_run, tmp_path, n=1))
    with np.load(tmp_path / "images.npz") as arrays:
        assert arrays["images"].shape == (1, 28, 28, 1)


def test_default_name_tells_settings_apart(tiny_run):
    settings = {"n": 64, "seed": 0, "label": [1, "cat"]}
    assert default_name(settings, {"min_p": 0.1}) == "n64_seed0_label1-cat_min_p0.1"
    assert default_name({**settings, "label": None}, {}) == "n64_seed0"
