"""Published folders and a hub: what travels, what stays at home, and what is refused."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from pipelines import Generator, tokenizer_from_pretrained
from pipelines.api import evaluate
from pipelines.cli.process import run_task
from pipelines.publishing import hub as hub_module
from pipelines.publishing.hub import Unreachable, upload, with_local_models
from tests.support.fake_hub import fake_hub
from tests.support.tiny import compose

OLD = Path(__file__).parents[2] / "old_runs" / "0.1.0"
FILES = ["README.md", "config.json", "samples.png"]
FILES += [f"{kind}/{name}" for kind in ("prior", "tokenizer") for name in ("config.yaml", "model.safetensors")]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def break_off(repo, *arguments, **options):
    """A download in which the network breaks."""
    raise Unreachable(f"{repo}: the hub cannot be reached, and no copy is here: try again with a network")


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of a run with an evaluation, whose configuration names a secret and paths of its author."""
    run = Path(shutil.copytree(tiny_run, tmp_path / "home" / "anna" / "runs" / "mine"))
    secret = {"files": "/home/anna/pictures", "cache": "/home/anna/cache", "token": "hf_anna", "user": "~/anna/x"}
    for path in (run / "tokenizer" / "config.yaml", run / "tokenizer" / "data.yaml"):
        plain = yaml.safe_load(path.read_text())
        (plain["data"]["train"] if "kind" in plain else plain).update(secret)
        if "kind" in plain:
            plain["data"]["train"]["source"] = "/home/anna/pictures"
        path.write_text(yaml.safe_dump(plain))
    return run


def write_evaluation(run, prior, psnr):
    folder = run / "evaluation" / f"n{psnr}"
    folder.mkdir(parents=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump({"prior": prior}))
    found = {"reconstruction": {"psnr": psnr}, "reading": "It was measured.", "remarks": ["A remark."]}
    (folder / "evaluation.json").write_text(json.dumps(found))


def header(folder):
    return yaml.safe_load((Path(folder) / "README.md").read_text().split("---\n")[1])


def test_a_folder_is_the_run_without_its_author(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret_1234567890")
    generator = Generator.load(run)
    folder = generator.save_pretrained(tmp_path / "published", license="mit", description="Digits by hf_anna.")
    assert files(folder) == sorted([*FILES, "tokenizer/data.yaml"])
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for word in (b"/home", b"hf_very", b"~/anna", str(tmp_path).encode()):
        assert [path for path, content in written.items() if word in content] == []
    assert yaml.safe_load((folder / "tokenizer" / "config.yaml").read_text())["data"]["train"]["source"] == "pictures"
    index = json.loads((folder / "config.json").read_text())
    assert index["class_names"] == [str(digit) for digit in range(10)]
    assert index["preprocessing"]["height"] == 28
    assert index["sampling"]["guidance"] == generator.settings.guidance

    found = Generator.from_pretrained(folder)
    assert found.fingerprint == generator.fingerprint == index["prior"]
    assert found.sample(5, seed=3) == generator.sample(5, seed=3)
    assert found.settings == generator.settings
    samples = generator.sample(2)
    assert torch.equal(found.encode(samples.images), generator.encode(samples.images))
    assert found.save_pretrained(folder) == folder  # once more, into the folder that it came from
    assert Generator.from_pretrained(folder).sample(2) == samples


def test_a_run_of_an_older_version_travels(tmp_path):
    old = Generator.load(OLD / "transformer")
    folder = old.save_pretrained(tmp_path / "published")
    found = Generator.from_pretrained(folder)
    assert found.sample(3, seed=1) == old.sample(3, seed=1)
    assert found.fingerprint == json.loads((folder / "config.json").read_text())["prior"]


def test_the_card_says_what_is_known(run, tmp_path):
    generator = Generator.load(run)
    write_evaluation(run, "another prior", 11)
    text = (generator.save_pretrained(tmp_path / "a") / "README.md").read_text()
    assert "Its author has named none" in text
    assert "license" not in header(tmp_path / "a")
    assert "at the end of the training" in text  # the evaluation is of another prior

    write_evaluation(run, generator.fingerprint, 33.5)
    generator.save_pretrained(tmp_path / "b", license="cc-by-4.0", description="Digits of mine.")
    text, found = (tmp_path / "b" / "README.md").read_text(), header(tmp_path / "b")
    assert found["license"] == "cc-by-4.0"
    assert found["library_name"] == "vqvae-prior"
    (result,) = found["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "psnr", "name": "Reconstructions: psnr", "value": 33.5}]
    for words in ("Digits of mine.", "cc-by-4.0", "It was measured.", "A remark.", "33.5", "samples.png"):
        assert words in text
    assert "at the end of the training" not in text
    card = huggingface_hub.ModelCard(text)  # the hub's own reader
    assert card.data.license == "cc-by-4.0"
    assert card.data.eval_results[0].metric_value == 33.5


def test_parts_alone_are_put_together_by_their_fingerprints(run, tmp_path):
    generator = Generator.load(run)
    tokenizer = generator.save_pretrained(tmp_path / "tokenizer", part="tokenizer")
    prior = generator.save_pretrained(tmp_path / "prior", part="prior")
    assert files(prior) == sorted(name for name in FILES if not name.startswith("tokenizer"))
    assert files(tokenizer) == ["README.md", *(name for name in files(tokenizer) if name != "README.md")]
    assert not (tokenizer / "prior").exists()
    whole = Generator.from_pretrained(prior, tokenizer=tokenizer)
    assert whole.sample(3) == generator.sample(3)
    images = generator.sample(2).images * 2 - 1
    assert torch.equal(tokenizer_from_pretrained(tokenizer).encode(images), generator.tokenizer.encode(images))

    weights = load_file(tokenizer / "tokenizer" / "model.safetensors")
    name = next(name for name in weights if "decoder" in name)
    changed = Path(shutil.copytree(tokenizer, tmp_path / "changed"))
    save_file({**weights, name: weights[name] + 1}, changed / "tokenizer" / "model.safetensors")
    refused = {
        "was trained on codes of tokenizer": (prior, changed),
        "a prior alone: give tokenizer=": (prior, None),
        "a tokenizer alone": (tokenizer, None),
        "not a prior alone": (tokenizer, tokenizer),
    }
    for words, (name, beside) in refused.items():
        with pytest.raises(ValueError, match=words):
            Generator.from_pretrained(name, tokenizer=beside)
    with pytest.raises(ValueError, match="was published"):
        tokenizer_from_pretrained(changed)
    with pytest.raises(ValueError, match="a prior alone"):
        tokenizer_from_pretrained(prior)


def test_mistakes_are_said_before_anything_is_written(run, tmp_path):
    generator = Generator.load(run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds something else"):
        generator.save_pretrained(tmp_path / "full")
    for wrong in ("My licence", "", 3):
        with pytest.raises(ValueError, match="license: the hub's name"):
            generator.save_pretrained(tmp_path / "new", license=wrong)
    with pytest.raises(ValueError, match="part: all, tokenizer, prior expected"):
        generator.save_pretrained(tmp_path / "new", part="decoder")
    with pytest.raises(ValueError, match="no such folder, and the hub's names are user/name"):
        Generator.from_pretrained("not here")
    with pytest.raises(ValueError, match="license: say under which"):
        generator.push_to_hub("anna/digits")
    with pytest.raises(ValueError, match="not loaded from a run"):
        Generator(generator.tokenizer, generator.prior, (), generator.settings, "x").save_pretrained(tmp_path / "new")
    assert files(tmp_path / "full") == ["thesis.tex"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "home"]


def test_to_the_hub_and_back(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = Generator.load(run)
    with fake_hub(monkeypatch, tmp_path / "cache") as hub:
        generator.save_pretrained(tmp_path / "quiet", license="mit")
        assert hub.requests == []  # nothing is sent unless it is asked
        address = generator.push_to_hub("anna/digits", license="mit")
        assert address.startswith(f"{hub.address}/anna/digits/commit/")
        assert "Bearer hf_of_the_tests" in hub.tokens
        sent = hub.repositories["anna/digits"][-1]
        assert sorted(sent) == sorted([*FILES, "tokenizer/data.yaml"])
        assert b'from_pretrained("anna/digits")' in sent["README.md"]
        sent["model.py"] = b"raise SystemExit('code of a stranger')"

        found = Generator.from_pretrained("anna/digits")
        assert found.sample(3, seed=2) == generator.sample(3, seed=2)
        assert not list((tmp_path / "cache").rglob("model.py"))
        revision = address.rpartition("/")[2]
        assert Generator.from_pretrained(f"hf://anna/digits@{revision}").fingerprint == generator.fingerprint
        for name, words in {
            "anna/none": "no such model on the hub.*; and there is no folder anna/none here",
            "hf://anna/digits@v7": "no revision v7",
            "hf://digits": "user/name",
        }.items():
            with pytest.raises(ValueError, match=words):
                Generator.from_pretrained(name)

        settings = compose("model=hf://anna/digits", "n=4", "seed=2", command="sample")
        run_task("pipelines.tasks.sample:sample_command", settings)
        here = tmp_path / "runs" / "hf" / "anna" / "digits"
        assert (here / "samples" / "n4_seed2" / "images.npz").exists()
        small = {"n": 0, "network.steps": 2, "network.width": 4, "data": "mnist5k"}
        assert "reconstruction" in evaluate("hf://anna/digits", settings=small)

        upload(generator.save_pretrained("alone", part="tokenizer", license="mit"), "anna/digits", None, None)
        assert not [name for name in hub.repositories["anna/digits"][-1] if name.startswith("prior")]
        (here / "prior" / "notes.txt").write_text("mine")
        assert with_local_models({"model": "hf://anna/digits"})["model"] == str(here)
        # What was dropped there goes here; what was made here stays.
        assert files(here / "prior") == ["notes.txt"]
        assert (here / "samples" / "n4_seed2" / "images.npz").exists()
        assert json.loads((here / "config.json").read_text())["part"] == "tokenizer"
        # A network that breaks off while nothing has changed there leaves what is whole.
        whole = here / ".cache" / "huggingface" / "whole.json"
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr(hub_module, "download", break_off)
            assert with_local_models({"model": "hf://anna/digits"})["model"] == str(here)
            assert whole.exists()
            hub.repositories["anna/digits"].append({**hub.repositories["anna/digits"][-1], "more.md": b"new"})
            with pytest.raises(ValueError, match=r"anna/digits: the hub cannot be reached, and no copy is here"):
                with_local_models({"model": "hf://anna/digits"})
            assert not whole.exists()  # files of two commits may lie there
        assert with_local_models({"model": "hf://anna/digits"})["model"] == str(here)
        assert json.loads(whole.read_text())["commit"] == f"{len(hub.repositories['anna/digits']):040x}"
    # Without the hub the folder that is here serves.
    assert with_local_models({"model": "hf://anna/digits"})["model"] == str(here)
    # One that was not downloaded to its end does not.
    (here / ".cache" / "huggingface" / "whole.json").unlink()
    with pytest.raises(ValueError, match=r"anna/digits: the hub cannot be reached, and no copy is here"):
        with_local_models({"model": "hf://anna/digits"})
    with pytest.raises(ValueError, match=r"anna/other: the hub cannot be reached, and no copy is here"):
        Generator.from_pretrained("anna/other")
