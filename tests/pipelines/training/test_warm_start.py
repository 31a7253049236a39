import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipelines.tasks.run import run
from pipelines.tasks.train_stage1 import train_stage1
from pipelines.training.warm_start import take_fitting
from tests.support.tiny import TINY, compose

STILL = ["stage1.optimization.learning_rate=1e-12", "stage2.optimization.learning_rate=1e-12"]


def network(inputs=3, classes=5):
    return nn.ModuleDict({"first": nn.Linear(inputs, 4), "second": nn.BatchNorm1d(4), "last": nn.Linear(4, classes)})


def test_modules_take_all_of_their_tensors_or_none():
    torch.manual_seed(0)
    old, new = network(), network(inputs=2)
    kept = new["first"].bias.clone()
    weights = old.state_dict()
    del weights["last.bias"]
    taken = take_fitting(new, weights)
    assert taken.new == {"first": "4×2 here, 4×3 there", "last": "not there"}
    assert torch.equal(new["first"].bias, kept)
    assert torch.equal(new["second"].weight, old["second"].weight)
    assert not torch.equal(new["last"].weight, old["last"].weight)
    assert (taken.numbers, taken.total) == (4 * 4 + 1, 4 * 2 + 4 + 4 * 4 + 1 + 4 * 5 + 5)


def weights(folder, kind):
    return load_file(folder / kind / "model.safetensors")


def words(folder, init, *more):
    given = {word.partition("=")[0] for word in more}
    tiny = [word for word in TINY if word.partition("=")[0] not in given]
    return compose(*tiny, *STILL, *more, f"output={folder}", f"init={init}")


@pytest.fixture(scope="module")
def grown(tiny_run, tmp_path_factory):
    """A run that started from another one, with a larger codebook, and did not move."""
    folder = tmp_path_factory.mktemp("warm") / "grown"
    run(words(folder, tiny_run, "stage1.quantizer.codebook_size=24"))
    return folder


def test_what_fits_is_taken_and_what_does_not_is_new(grown, tiny_run):
    before, after = weights(tiny_run, "tokenizer"), weights(grown, "tokenizer")
    assert set(before) == set(after)
    for name, tensor in after.items():
        if name.startswith("quantizer."):
            continue
        torch.testing.assert_close(tensor, before[name], atol=1e-6, rtol=0)
    (codebook,) = [name for name in after if name.endswith("codebook")]
    assert after[codebook].shape[0] == 24
    assert after[codebook].unique(dim=0).shape[0] > 16  # started from data, as a new one is
    prior = weights(grown, "prior")
    fitting = [name for name, tensor in weights(tiny_run, "prior").items() if prior[name].shape == tensor.shape]
    assert len(fitting) > len(prior) / 2


def test_the_same_start_goes_on_and_another_is_refused(grown, tiny_run, tmp_path, capsys):
    more = ["stage1.quantizer.codebook_size=24"]
    moved = tmp_path / "moved"
    shutil.copytree(tiny_run, moved)
    train_stage1(words(grown, moved, *more))  # known by its content
    assert "already trained" in capsys.readouterr().out
    with pytest.raises(ValueError, match="tokenizer of other settings"):
        train_stage1(words(grown, "null", *more))


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^init=.*nowhere: .*nowhere/tokenizer holds no finished tokenizer"):
        train_stage1(words(tmp_path / "new", "nowhere"))
    assert not (tmp_path / "new").exists()
