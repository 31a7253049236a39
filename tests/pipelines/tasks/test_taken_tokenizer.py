"""``tokenizer=RUN``: a prior of one's own images over a tokenizer that another run trained."""

import re

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts.models import fingerprint
from pipelines.generator import Generator
from pipelines.tasks.evaluate import evaluate
from pipelines.tasks.extract_codes import extract_codes
from pipelines.tasks.run import run
from pipelines.tasks.train_stage2 import train_stage2
from stage1_vqvae.files import read_json, read_yaml
from tests.support.tiny import REST, compose

PRIOR = ("stage2=transformer_small", *[word for word in REST if word.startswith(("stage2", "logger", "n="))])


def own(folder, *words):
    """Settings with 40 photographs of two classes below a folder, each of 30×40 pixels and three channels."""
    for number in range(40):
        path = folder / "images" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shades = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(shades).save(path)
    data = ("data=folder", f"data.files={folder / 'images'}", f"data.cache={folder / 'cache'}")
    given = [*PRIOR, *data, f"output={folder / 'run'}", *words]
    return {**compose(*given), "overrides": given}


def test_a_prior_over_a_tokenizer_of_another_run(tiny_run, tmp_path, capsys):
    settings = own(tmp_path, f"tokenizer={tiny_run}")
    run(settings)
    made = tmp_path / "run"
    assert fingerprint(made / "tokenizer") == fingerprint(tiny_run / "tokenizer")
    assert f"tokenizer: taken from {tiny_run / 'tokenizer'}" in capsys.readouterr().out.replace("\n", "")
    data = read_yaml(made / "tokenizer" / "data.yaml")
    assert (data["image_size"], data["channels"]) == ([28, 28], 1)  # not the 64×64 in colour of data=folder
    assert not (made / "checkpoints" / "stage1").exists()
    generator = Generator.load(made)
    assert generator.class_names == ("cat", "dog")
    assert generator.sample(2).images.shape == (2, 1, 28, 28)
    assert read_json(made / "codes" / "train" / "manifest.json")["data"]["source"] == "folder images"

    run(settings)  # nothing is left to do
    assert "tokenizer: already trained" in capsys.readouterr().out
    evaluate({**compose(f"model={made}", "n=0", "network.steps=1", command="evaluate")})  # knows the images as its own
    with pytest.raises(ValueError, match="holds a tokenizer of other settings"):
        run(own(tmp_path))
    with pytest.raises(ValueError, match="holds no finished tokenizer"):
        extract_codes(own(tmp_path, f"tokenizer={tmp_path / 'nowhere'}"))


@pytest.mark.parametrize("word", ["data.image_size=[32,32]", "data.channels=3"])
def test_images_of_another_form_than_the_tokenizers_are_refused(word, tiny_run, tmp_path):
    key = word.partition("=")[0]
    with pytest.raises(ValueError, match=rf"{re.escape(key)}=.*: the tokenizer of .* leave {key} out"):
        extract_codes(own(tmp_path, f"tokenizer={tiny_run}", word))
    assert not (tmp_path / "run").exists()


def test_codes_of_another_tokenizer_are_not_taken_for_its(tiny_run, tiny_hierarchy, tmp_path):
    with pytest.raises(ValueError, match=f"is not the tokenizer of {tiny_hierarchy}"):
        train_stage2({**own(tmp_path, f"tokenizer={tiny_hierarchy}"), "output": str(tiny_run)})
