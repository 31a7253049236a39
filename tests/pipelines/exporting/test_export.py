"""Exported models compute what ours do: the same codes, in other runtimes."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipelines import Generator
from pipelines.exporting.graphs import step_of
from pipelines.exporting.write import export, write_prior
from pipelines.tasks.export import export_command
from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.prior import Prior
from stage2_prior.transformer.model import Transformer
from tests.support.small_priors import LAYOUT, build
from tests.support.tiny import compose

CUT = (
    {"top_k": 3},
    {"top_p": 0.6, "temperature": 0.8},
    {"min_p": 0.5, "temperature": 1.3},
    {"top_k": 12, "top_p": 0.9, "min_p": 0.1},
)
"""Settings that drop codes."""


def logits_by_steps(prior, codes, labels):
    """Logits of given codes by the step that is exported."""
    step = step_of(prior).eval()
    state, found = step.state(len(labels)), []
    classes = torch.where(labels < 0, prior.num_classes, labels)
    for position in range(prior.layout.length):
        logits, *state = step(codes[:, max(position - 1, 0)], classes, torch.tensor([position]), *state)
        found.append(logits)
    return torch.stack(found, 1)


def test_the_runner_draws_our_codes(tiny_run, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = export_command(compose(f"model={tiny_run}", f"output={tmp_path / 'exported'}", command="export"))
    generator = Generator.load(tiny_run, device="cpu")
    pixels = np.random.default_rng(0).random((5, 1, 28, 28), dtype=np.float32)
    greedy = {"temperature": 0, "guidance": 1.0, "min_p": None}
    ours = generator.sample(5, **greedy)
    plain = {"guidance": 1.0, "top_k": None, "top_p": None, "min_p": None}
    guided = generator.sample(3, seed=4, guidance=2.0, min_p=None)
    np.savez(
        tmp_path / "ours.npz",
        pixels=pixels,
        encoded=generator.encode(pixels).numpy(),
        labels=ours.labels.numpy(),
        codes=ours.codes.numpy(),
        decoded=ours.images.numpy(),
        guided=guided.codes.numpy(),
        **{
            f"cut_{index}": generator.sample(8, seed=5, **{**plain, **how}).codes.numpy()
            for index, how in enumerate(CUT)
        },
    )
    # In a process without torch: the runner needs numpy and onnxruntime alone.
    code = (
        "import sys; import numpy as np; from runner import Runner\n"
        "ours, runner = np.load(sys.argv[1]), Runner('.')\n"
        "assert np.array_equal(runner.encode(ours['pixels']), ours['encoded'])\n"
        "assert np.array_equal(runner.encode(ours['pixels'][:1]), ours['encoded'][:1])  # the batch is open\n"
        "codes = runner.sample(ours['labels'], temperature=0)\n"
        "assert np.array_equal(codes, ours['codes'])\n"
        "assert np.abs(runner.decode(codes) - ours['decoded']).max() < 1e-5\n"
        "assert np.array_equal(runner.sample(ours['labels'][:3], seed=4, guidance=2.0), ours['guided'])\n"
        f"for index, how in enumerate({CUT}):\n"
        "    drawn = runner.sample([0, 1, 2, 3, 4, 5, 6, 7], seed=5, **how)\n"
        "    assert np.array_equal(drawn, ours[f'cut_{index}']), how\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "ours.npz")], cwd=folder, check=True)
    shown = subprocess.run(
        [sys.executable, "runner.py", "2", "3"], cwd=folder, check=True, capture_output=True, text=True
    )
    assert shown.stdout == "images.npy: (2, 1, 28, 28)\n"


def test_what_the_runner_drops():
    pytest.importorskip("onnxruntime")
    from pipelines.exporting.runner import truncated

    shares = np.array([[0.4, 0.05, 0.3, 0.25], [0.25, 0.25, 0.25, 0.25]], np.float32)
    logits = np.log(shares)
    kept = lambda *how: np.isfinite(truncated(logits, *how)).tolist()  # noqa: E731
    every, third = [True] * 4, [True, False, True, True]
    assert kept(None, None, None) == [every, every]
    assert kept(2, None, None) == [[True, False, True, False], every]  # those as likely as the last one stay
    assert kept(None, 0.75, None) == [third, every]
    assert kept(None, 0.65, None) == [[True, False, True, False], every]
    assert kept(None, None, 0.5) == [third, every]
    assert kept(3, 0.5, 0.9) == [[True, False, False, False], every]


def read_state(folder):
    """Shapes and types of the state of an exported prior."""
    return json.loads((folder / "config.json").read_text())["state"]


def test_torch_export(tiny_hierarchy, tmp_path):
    generator = Generator.load(tiny_hierarchy, device="cpu")
    export(tmp_path, generator.tokenizer, generator.prior, generator.class_names, "torch_export")
    encoder, decoder, prior = (
        torch.export.load(tmp_path / f"{name}.pt2").module() for name in ("encoder", "decoder", "prior")
    )
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    codes = encoder(images)
    assert torch.equal(codes, generator.encode(images))
    torch.testing.assert_close(decoder(codes), generator.decode(codes))
    state = [torch.zeros(3, *shape, dtype=getattr(torch, kind)) for shape, kind in read_state(tmp_path)]
    with torch.no_grad():
        expected = generator.prior(codes, torch.tensor([1, 2, -1]))
        for position in range(generator.layout.length):
            before = codes[:, max(position - 1, 0)]
            logits, *state = prior(before, torch.tensor([1, 2, 10]), torch.tensor([position]), *state)
            torch.testing.assert_close(logits, expected[:, position])


def pixelcnn(layout, classes=2, **shape):
    """A PixelCNN whose every weight matters."""
    torch.manual_seed(0)
    prior = PixelCNN(layout, classes, **{"width": 8, "layers": 2, **shape})
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior.eval()


TWO = CodeLayout(((1, 2), (2, 4)), (3, 5))
PLAIN = CodeLayout(((4, 3),), (5,))
PRIORS = {
    "transformer": lambda: build(Transformer, LAYOUT),
    "transformer, no classes": lambda: build(Transformer, LAYOUT, classes=0),
    "transformer, two grids": lambda: build(Transformer, TWO),
    "pixelcnn": lambda: pixelcnn(PLAIN),
    "pixelcnn, no classes, one row": lambda: pixelcnn(CodeLayout(((7,),), (5,)), classes=0),
    "pixelcnn, wide kernel, attention": lambda: pixelcnn(PLAIN, kernel=5, layers=3, attention_every=2, heads=2),
    "pixelcnn, two grids": lambda: pixelcnn(TWO, width=[8, 12], layers=[1, 2], attention_every=[None, 1], heads=2),
    "another": lambda: Another(PLAIN, 2).eval(),
}


class Another(Prior):
    """A prior without a cache: each code is likely to be one more than all before it, and the class, together."""

    def predict(self, codes, labels):
        before = codes.cumsum(1) - codes + labels[:, None]
        return torch.nn.functional.one_hot((before + 1) % 5, 5).float()


@torch.no_grad()
@pytest.mark.parametrize("name", PRIORS)
def test_steps_give_the_logits_of_the_whole(name):
    prior = PRIORS[name]()
    labels = torch.tensor([-1, 0 if prior.num_classes else -1, -1])
    codes = torch.randint(3, (3, prior.layout.length), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits_by_steps(prior, codes, labels), prior(codes, labels), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_pixelcnns_cache_does_not_grow():
    """But for the codes the state of a tall grid is that of a low one."""
    low, tall = (step_of(pixelcnn(CodeLayout(((height, 4),), (5,)))).state(1) for height in (2, 64))
    assert [each.shape for each in low[1:]] == [each.shape for each in tall[1:]]
    assert [each.shape[1] for each in (low[0], tall[0])] == [8, 256]


@torch.no_grad()
def test_a_hierarchy_in_the_runner(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from pipelines.exporting.runner import Runner

    prior = PRIORS["pixelcnn, two grids"]()
    config = write_prior(tmp_path / "prior.onnx", prior, "onnx")
    (tmp_path / "config.json").write_text(json.dumps({**config, "length": TWO.length}))
    labels = torch.tensor([-1, 0, 1])
    codes = torch.from_numpy(Runner(tmp_path).sample(labels, temperature=0))
    assert torch.equal(prior(codes, labels).argmax(2), codes)
    one = Runner(tmp_path).sample(labels[1:2], temperature=0)
    assert np.array_equal(one, codes[1:2])  # the batch is open


def test_a_tokenizer_alone_and_mistakes(tiny_run, tmp_path, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(run / "prior")
    settings = compose(f"model={run}", "format=torch_export", command="export")
    folder = export_command(settings)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "decoder.pt2", "encoder.pt2"]
    assert "its tokenizer alone" in capsys.readouterr().out
    with pytest.raises(ValueError, match="format: onnx or torch_export or vqmodel expected"):
        export_command({**settings, "format": "tflite"})


def test_a_missing_package_is_named(monkeypatch, tiny_run):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"format=onnx needs onnxruntime: pip install 'vqvae-prior\[onnx\]'"):
        export_command(compose(f"model={tiny_run}", command="export"))
