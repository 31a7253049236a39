"""A decoder that is trained further: the codes, and all that belongs to them, stay."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipelines.artifacts.models import Saved, codes_fingerprint, fingerprint, load_prior, load_tokenizer
from pipelines.generator import Generator
from pipelines.sweep.pruned import JobPruned
from pipelines.tasks import tokenizer_stage
from pipelines.tasks.sample import sample_command
from pipelines.tasks.train_decoder import train_decoder
from pipelines.tasks.train_stage2 import train_stage2
from stage1_vqvae.files import read_json, read_yaml, sha256, write_yaml
from stage2_prior.code_store.store import CodeStore
from tests.support.resuming import At, die
from tests.support.tiny import TINY, compose

SMALL = ("logger=csv", "hardware=cpu", "stage1.batch_size=16", "stage1.trainer.max_steps=6")
OFTEN = ("stage1.trainer.validate_every=3", "stage1.trainer.checkpoint_every=2")
AGAINST = ("stage1/training=adversarial", "stage1.discriminator.width=4", "stage1.discriminator.layers=2")
WORDS = (*SMALL, *OFTEN, *AGAINST, "stage1.trainer.ema_decay=0.9", "noise=0.2", "neighbours=3")


def settings(model, output, *words):
    return compose(f"model={model}", f"output={output}", *words, command="train_decoder")


def files(folder):
    """Digest of every file below a folder, by name."""
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    """The old run, one with a sharper decoder, and the old run's files before."""
    before = files(tiny_run)
    sharper = tmp_path_factory.mktemp("decoder") / "sharper"
    train_decoder(settings(tiny_run, sharper, *WORDS))
    return tiny_run, sharper, before


def test_the_decoder_alone_is_another(trained):
    old, new, before = trained
    assert files(old) == before
    weights, kept = (load_file(run / "tokenizer" / "model.safetensors") for run in (new, old))
    assert weights.keys() == kept.keys()
    moved = {name for name, value in weights.items() if not torch.equal(value, kept[name])}
    assert moved == {name for name in weights if name.startswith("decoder.")}
    (tokenizer, saved), (first, known) = load_tokenizer(new / "tokenizer"), load_tokenizer(old / "tokenizer")
    images = torch.rand(5, 1, 28, 28) * 2 - 1
    assert torch.equal(tokenizer.encode(images), first.encode(images))
    assert saved.config["model"] == known.config["model"]
    assert {key: saved.config["data"][key] for key in known.config["data"]} == known.config["data"]
    judge = read_yaml(new / "tokenizer" / "discriminator" / "config.yaml")["model"]
    assert judge["channels"] == 1, "of the run's images"
    asked = read_yaml(new / "tokenizer" / "settings.yaml")
    assert asked["stage1"]["objective"] == read_yaml(old / "tokenizer" / "settings.yaml")["stage1"]["objective"]


def test_codes_and_prior_belong_to_the_codes_and_nothing_else_does(trained):
    old, new, _ = trained
    whole, codes = fingerprint(old / "tokenizer"), fingerprint(new / "tokenizer")
    assert whole != codes
    saved = Saved.open(new / "tokenizer", "tokenizer")
    assert saved.fingerprint == codes
    assert (
        saved.codes_fingerprint == codes_fingerprint(new / "tokenizer") == codes_fingerprint(old / "tokenizer") == whole
    )
    for part in ("codes", "prior"):
        assert files(new / part) == files(old / part)
    assert CodeStore.open(new / "codes" / "train", saved.codes_fingerprint).verify() is None
    with pytest.raises(ValueError, match=f"was trained on codes of tokenizer {whole[:12]}, not of {codes[:12]}"):
        load_prior(new / "prior", codes)
    before, after = Generator.load(old), Generator.load(new)
    drawn, sharper = before.sample(3, seed=1), after.sample(3, seed=1)
    assert torch.equal(drawn.codes, sharper.codes)
    assert not torch.equal(drawn.images, sharper.images)
    assert before.fingerprint == fingerprint(old / "prior")
    assert len({before.fingerprint, after.fingerprint, codes, whole}) == 4
    assert read_yaml(new / "tokenizer" / "settings.yaml")["decoder_of"] == whole


def test_samples_of_another_decoder_are_set_aside(trained, tmp_path):
    old, new, _ = trained
    run = shutil.copytree(old, tmp_path / "run")
    sample_command(compose(f"model={run}", "n=2", "hardware=cpu", command="sample"))
    shutil.rmtree(run / "tokenizer")
    shutil.copytree(new / "tokenizer", run / "tokenizer")
    drawn = np.load(run / "samples" / "n2_seed0" / "images.npz")
    sample_command(compose(f"model={run}", "n=2", "hardware=cpu", command="sample"))
    again = np.load(run / "samples" / "n2_seed0" / "images.npz")
    np.testing.assert_array_equal(again["codes"], drawn["codes"])
    assert (again["images"] != drawn["images"]).any()
    assert len(list(run.glob("samples-of-prior-*"))) == 1


def test_killed_is_not_killed_and_done_is_done(trained, tmp_path, monkeypatch, capsys):
    old, new, _ = trained
    asked = settings(old, tmp_path / "run", *WORDS)
    with monkeypatch.context() as context:
        fit = tokenizer_stage.fit
        context.setattr(tokenizer_stage, "fit", lambda *given: fit(*given[:-1], [*given[-1], At(die, 5)]))
        with pytest.raises(SystemExit):
            train_decoder(asked)
    assert not (tmp_path / "run" / "codes").exists()
    train_decoder(asked)
    assert "going on from" in capsys.readouterr().out
    for name in ("model.safetensors", "metrics.json", "config.yaml", "discriminator/model.safetensors"):
        assert sha256(tmp_path / "run" / "tokenizer" / name) == sha256(new / "tokenizer" / name), name
    shutil.rmtree(tmp_path / "run" / "prior")  # a command that was killed here
    train_decoder(asked)
    said = capsys.readouterr().out.replace("\n", "")
    assert "tokenizer: already trained" in said
    assert f"prior: those of {old}" in said
    assert files(tmp_path / "run" / "prior") == files(old / "prior")
    with pytest.raises(ValueError, match=r"holds a tokenizer of other settings \(noise: 0.2, now 0.0\)"):
        train_decoder({**asked, "noise": 0.0})


def test_callbacks_see_the_training_and_a_condition_ends_it(tiny_run, tmp_path):
    own = f"callbacks.stage1=[{{_target_:tests.support.own_classes.CountSteps,file:{tmp_path / 'steps'}}}]"
    words = (*SMALL, *OFTEN, own, "trust=[tests]", "stop_if='stage1.psnr > 0 after 3'")
    with pytest.raises(JobPruned, match=r"stage1.psnr .* at step 3 \(stop_if\)"):
        train_decoder(settings(tiny_run, tmp_path / "run", *words))
    assert float((tmp_path / "steps").read_text()) == 3
    assert "CountSteps" in (tmp_path / "run" / "checkpoints" / "stage1" / "settings.yaml").read_text()
    train_decoder(settings(tiny_run, tmp_path / "run", *words[:-1]))
    assert (tmp_path / "run" / "tokenizer" / "config.yaml").exists()


def test_a_decoder_of_a_decoder_and_a_prior_of_its_own(trained, tmp_path):
    """Of a tokenizer alone; the prior that is trained beside the second decoder goes with the first tokenizer too."""
    old, new, _ = trained
    alone = tmp_path / "alone"
    shutil.copytree(new / "tokenizer", alone / "tokenizer")
    second = tmp_path / "second"
    train_decoder(
        settings(alone, second, *SMALL, *OFTEN, "stage1.trainer.max_steps=2", "stage1/objective=absolute_error")
    )
    assert codes_fingerprint(second / "tokenizer") == fingerprint(old / "tokenizer")
    assert sorted(path.name for path in second.iterdir() if path.name in ("codes", "prior")) == []
    shutil.copytree(old / "codes", second / "codes")
    train_stage2(compose(*TINY, f"output={second}", "hardware=cpu", "stage2.trainer.max_steps=2"))
    load_prior(second / "prior", fingerprint(old / "tokenizer"))
    shutil.copytree(second / "prior", alone / "prior")
    Generator.load(alone)
    other = tmp_path / "other"
    shutil.copytree(second, other)
    write_yaml(
        other / "tokenizer" / "config.yaml", {**read_yaml(other / "tokenizer" / "config.yaml"), "codes_of": "a" * 64}
    )
    with pytest.raises(ValueError, match=r"was trained on codes of tokenizer .*, not of aaaaaaaaaaaa"):
        Generator.load(other)
    with pytest.raises(ValueError, match="holds codes of another tokenizer"):
        train_decoder(settings(other, tmp_path / "never", *SMALL, "stage1/objective=absolute_error"))
    assert not (tmp_path / "never").exists()


def test_the_discriminator_goes_on_where_it_was_if_it_is_made_alike(trained, tmp_path, capsys):
    _, new, _ = trained
    first = load_file(new / "tokenizer" / "discriminator" / "model.safetensors")
    steps = (*SMALL, *AGAINST, "stage1.trainer.max_steps=1", "stage1.training.adversary.onset=1")
    for output, words, goes_on in (("alike", (), True), ("wider", ("stage1.discriminator.width=6",), False)):
        train_decoder(settings(new, tmp_path / output, *steps, *words))
        assert ("discriminator: goes on from" in capsys.readouterr().out) is goes_on
        weights = load_file(tmp_path / output / "tokenizer" / "discriminator" / "model.safetensors")
        known = read_yaml(tmp_path / output / "tokenizer" / "settings.yaml")["discriminator_of"]
        assert (known == fingerprint(new / "tokenizer" / "discriminator")) is goes_on
        same = [torch.equal(weights[name], first[name]) for name in first if name.endswith("original")]
        assert all(same) is goes_on, "before the onset it does not learn"


def test_published_parts_go_together(trained, tmp_path):
    old, new, _ = trained
    generator = Generator.load(new)
    codes = generator.sample(2, seed=3).codes
    for part in ("all", "prior"):
        generator.save_pretrained(tmp_path / part, part=part)
    Generator.load(old).save_pretrained(tmp_path / "old", part="prior")
    whole = Generator.from_pretrained(tmp_path / "all")
    assert whole.fingerprint == generator.fingerprint
    for prior in ("prior", "old"):
        for tokenizer in (old, new):
            found = Generator.from_pretrained(tmp_path / prior, tokenizer=tokenizer)
            assert torch.equal(found.sample(2, seed=3).codes, codes)
    index = read_json(tmp_path / "all" / "config.json")
    assert index["tokenizer"] == fingerprint(new / "tokenizer")
    assert read_json(tmp_path / "prior" / "config.json")["tokenizer"] == fingerprint(old / "tokenizer")


def test_mistakes_end_before_anything_is_written(trained, tmp_path):
    old, _, before = trained
    output = tmp_path / "run"
    ask = partial(settings, old)
    with pytest.raises(ValueError, match="is the run itself: a decoder is trained into a run of its own"):
        train_decoder(ask(old))
    with pytest.raises(ValueError, match=r"noise is a share of codes in \[0, 1\], got 2"):
        train_decoder(ask(output, *SMALL, "noise=2"))
    with pytest.raises(ValueError, match=r"the images are not those that .* was trained on \(.*\): give those"):
        train_decoder(ask(output, *SMALL, "data.validation=0.3"))
    with pytest.raises(ValueError, match="holds no finished tokenizer"):
        train_decoder(settings(tmp_path / "nowhere", output))
    shutil.copytree(old / "tokenizer", tmp_path / "bare" / "tokenizer")
    bare = tmp_path / "bare" / "tokenizer"
    (bare / "settings.yaml").unlink()
    with pytest.raises(ValueError, match="does not say by which objective it was trained: give one"):
        train_decoder(settings(tmp_path / "bare", output))
    (bare / "data.yaml").unlink()
    with pytest.raises(ValueError, match="does not say which images it was trained on: give data=folder"):
        train_decoder(settings(tmp_path / "bare", output, "stage1/objective=absolute_error"))
    assert not output.exists()
    assert files(old) == before
