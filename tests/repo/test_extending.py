"""What ``docs/extending.md`` says, done in a folder of its own: its files are written and its commands run."""

import csv
import importlib
import runpy
import shlex
import sys
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.support.pages import blocks, commands
from tests.support.tiny import TINY

PAGE = "docs/extending.md"
SHORT = [word for word in TINY if "trainer." in word or "batch_size" in word or word in ("logger=csv", "n=20")]
SMALL = ["stage1.model.width=8", "stage1.model.residual_width=4", "stage1.model.residual_layers=1", "codes.copies=1"]
QUANTIZER = ["stage1.quantizer.dim=4", "stage1.quantizer.codebook_size=16"]
PRIOR = ["stage2.model.width=16", "stage2.model.layers=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reader's folder, with every file of the page and nothing else but some images."""
    folder = tmp_path_factory.mktemp("extending")
    for block in blocks(PAGE):
        if block.file:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text)
    rng = np.random.default_rng(0)
    with ZipFile(folder / "my_images.zip", "w") as archive:
        for number in range(40):
            with archive.open(f"{('cat', 'dog')[number % 2]}/{number}.png", "w") as file:
                Image.fromarray(rng.integers(0, 256, (36, 32, 3), dtype=np.uint8)).save(file, "PNG")
    return folder


@pytest.fixture
def run_here(folder, monkeypatch, capfd):
    """A command of the page in this process, from the reader's folder; its output."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()

    def run(words):
        monkeypatch.setattr(sys, "argv", words[2:])
        monkeypatch.delitem(sys.modules, words[2], raising=False)
        try:
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ended:
            code = ended.code
        shown = "".join(capfd.readouterr())
        if code not in (0, None):
            # Said in full: what `assert` shows of a long line has its middle left out.
            pytest.fail(f"{shown}{code}", pytrace=False)
        return shown

    yield run
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def command_with(text):
    """The page's command that holds a text, as words, with the smallest settings; fails unless there is one."""
    (command,) = [command for command, _ in commands(PAGE) if text in command]
    words = shlex.split(command)
    if words[2] == "pipelines.run":
        # Options of one's own have keys of their own: only those of the other parts are made small.
        own = {"stage1/quantizer=": QUANTIZER, "stage2=": [*PRIOR, "stage2.model.heads=2"]}
        small = [word for key, parts in own.items() if key not in command for word in parts]
        small += [word for word in PRIOR if "stage2=" in command]
        words[3:3] = [*SHORT, *SMALL, *small, *([] if "experiment=" in command else ["stage2=transformer_small"])]
    return words


def test_every_command_of_the_page_is_tested():
    assert len(commands(PAGE)) == 10


def test_a_quantizer(folder, run_here):
    run_here(command_with("stage1/quantizer=signs"))
    config = (folder / "runs/signs/tokenizer/config.yaml").read_text()
    assert "mypackage.quantizers.Signs" in config
    run_here(command_with("model=runs/signs"))
    codes = np.load(folder / "samples/signs/images.npz")["codes"]
    assert codes.shape == (20, 16)
    assert codes.min() >= 0
    assert codes.max() < 2**8


def test_the_quantizer_keeps_its_contract(run_here):
    from mypackage.quantizers import Signs

    z = torch.randn(2, 3, 4, 5, requires_grad=True)
    quantized = Signs(3).eval()(z)
    expected = np.where(z.detach().numpy() > 0, 1, -1)
    assert np.array_equal(quantized.vectors.detach().numpy(), expected)
    assert np.array_equal(quantized.codes.numpy(), ((expected > 0) * np.array([1, 2, 4])[:, None, None]).sum(1))
    assert torch.equal(Signs(3).lookup(quantized.codes), quantized.vectors)
    quantized.vectors.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))


@pytest.mark.parametrize("composite", ["residual", "product"])
def test_the_quantizer_goes_into_composites(composite, folder, run_here):
    inside = ["stage1/quantizer=" + composite, "stage1/quantizer@stage1.quantizer.quantizer=signs"]
    inside += ["stage1.quantizer.quantizer.dim=2", f"output=runs/{composite}"]
    words = [word for word in command_with("stage1/quantizer=signs") if not word.startswith("output=")]
    words[words.index("stage1/quantizer=signs")] = inside[0]
    words[2] = "pipelines.train_stage1"
    run_here([*words, *inside[1:]])
    assert (folder / f"runs/{composite}/tokenizer/model.safetensors").exists()


def test_a_tokenizer(folder, run_here):
    run_here(command_with("pipelines.convert"))
    run_here(command_with("tokenizer=runs/mosaic"))
    drawn = np.load(folder / "runs/mosaic_digits/samples/images.npz")
    (codes, images) = (drawn[name] for name in ("codes", "images"))
    expected = np.rint(codes.reshape(20, 7, 7) / 15 * 255).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    assert np.abs(images[..., 0].astype(int) - expected).max() <= 1
    report = (folder / "runs/mosaic_digits/report.html").read_text()
    assert "mosaic" in report


def test_a_prior(folder, run_here):
    run_here(command_with("stage2=gru"))
    weights = load_file(folder / "runs/gru/prior/model.safetensors")
    assert {name.partition(".")[0] for name in weights} == {"code", "label", "gru", "logits"}
    assert (folder / "runs/gru/samples/grid.png").exists()


def test_the_prior_sees_only_what_lies_before(run_here):
    from mypackage.priors import GRU

    from stage1_vqvae import CodeLayout

    prior = GRU(CodeLayout(((2, 3),), (5,)), num_classes=2, width=8).eval()
    codes = torch.randint(5, (3, 6))
    logits = prior(codes, torch.tensor([0, 1, -1]))
    for position in range(6):
        changed = codes.clone()
        changed[:, position] = (changed[:, position] + 1) % 5
        differs = (prior(changed, torch.tensor([0, 1, -1])) != logits).any(-1)  # [B, T]
        assert not differs[:, : position + 1].any()
        assert differs[:, position + 1 :].all()


def test_a_source_of_images(folder, run_here):
    run_here(command_with("data=zip"))
    assert np.load(folder / "runs/zip/samples/images.npz")["images"].shape == (20, 32, 32, 3)
    config = (folder / "runs/zip/tokenizer/config.yaml").read_text()
    assert "zip my_images.zip" in config


def test_a_loss(folder, run_here):
    run_here(command_with("stage1/objective=huber"))
    assert "mypackage.losses.Huber" in (folder / "runs/huber/tokenizer/settings.yaml").read_text()


def test_a_sampling_rule(folder, run_here, tiny_run):
    words = command_with("rules.Typical")
    run_here([word.replace("runs/demo", str(tiny_run)) for word in words])
    drawn, settings = (
        np.load(folder / "samples/typical/images.npz"),
        (folder / "samples/typical/settings.yaml").read_text(),
    )
    assert drawn["codes"].shape == (16, 16)
    assert "mypackage.rules.Typical" in settings
    assert "mass: 0.8" in settings


def test_the_sampling_rule_is_locally_typical(run_here):
    from mypackage.rules import Typical

    p = np.array([[0.6, 0.25, 0.1, 0.05], [0.25, 0.25, 0.25, 0.25]])
    kept = Typical(0.5)(torch.from_numpy(np.log(p)), torch.zeros(2, 0)).isfinite().numpy()
    surprise = np.abs(-np.log(p[0]) + (p[0] * np.log(p[0])).sum())  # the entropy is 1.05 nats
    assert surprise.argsort().tolist() == [1, 0, 2, 3]
    assert kept[0].tolist() == [True, True, False, False]
    assert kept[1].sum() == 2


def test_a_metric(folder, run_here):
    words = command_with("metrics.Outliers")
    run_here(words)
    with (folder / "runs/outliers/logs/metrics.csv").open() as file:
        values = [float(row["value"]) for row in csv.DictReader(file) if row["metric"] == "validation/outliers"]
    assert len(values) >= 2
    assert all(0 < value < 1 for value in values)
    without = [word for word in words if not word.startswith(("callbacks.", "trust="))]
    assert "already trained" in run_here(without)


def test_a_callback(folder, run_here):
    words = command_with("callbacks.FreezeEncoder")
    run_here(words)
    weights = [f"runs/frozen/checkpoints/stage1/step-0000000{step}.ckpt" for step in (4, 6)]
    before, after = (torch.load(folder / name, weights_only=True)["state_dict"] for name in weights)
    moved = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert "decoder" in moved
    assert "encoder" not in moved
    with pytest.raises(pytest.fail.Exception, match=r"tokenizer of other settings .*callbacks"):
        run_here([word for word in words if not word.startswith(("callbacks.", "trust="))])
