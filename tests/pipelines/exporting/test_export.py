"""Exported models compute what ours do: the same codes, in other runtimes."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipelines import Generator
from pipelines.exporting.graphs import step_of
from pipelines.exporting.write import export
from pipelines.tasks.export import export_command
from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
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


def drawn_by_steps(prior, labels):
    """Greedy codes of a prior by the step that is exported."""
    step = step_of(prior).eval()
    state, codes = step.state(len(labels)), []
    classes = torch.where(labels < 0, prior.num_classes, labels)
    for position in range(prior.layout.length):
        before = codes[-1] if codes else torch.zeros_like(labels)
        logits, *state = step(before, classes, torch.tensor([position]), *state)
        codes.append(logits.argmax(1))
    return torch.stack(codes, 1)


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
    known = torch.zeros(3, generator.layout.length, dtype=torch.int64)
    with torch.no_grad():
        for position in range(3):
            before = codes[:, max(position - 1, 0)]
            logits, known = prior(before, torch.tensor([1, 2, 10]), torch.tensor([position]), known)
            expected = generator.prior(codes, torch.tensor([1, 2, -1]))[:, position]
            torch.testing.assert_close(logits, expected)


@torch.no_grad()
@pytest.mark.parametrize("layout", [LAYOUT, CodeLayout(((1, 2), (2, 2)), (3, 5))], ids=["one grid", "two"])
@pytest.mark.parametrize(("kind", "classes"), [(Transformer, 2), (Transformer, 0), (PixelCNN, 2)])
def test_steps_give_the_codes_of_the_whole(kind, classes, layout):
    if kind is PixelCNN and len(layout.grids) > 1:
        prior = PixelCNN(layout, classes, width=8, layers=[2, 2]).eval()
    else:
        prior = build(kind, layout, classes=classes)
    labels = torch.tensor([-1, 0 if classes else -1])
    codes = drawn_by_steps(prior, labels)
    logits = prior(codes, labels)
    assert torch.equal(logits.argmax(2), codes)


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
