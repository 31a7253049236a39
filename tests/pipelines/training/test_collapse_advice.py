"""What is said of a codebook that collapsed: three settings that exist."""

import re

import pytest

from pipelines.tasks import tokenizer_stage, train_stage1
from pipelines.training.collapse_advice import advice, collapsed
from stage1_vqvae.codes import CodeLayout
from tests.support.tiny import HIERARCHY, TINY, compose, tiny

ONE, TWO = CodeLayout(((4, 4),), (512,)), CodeLayout(((1, 1), (2, 2)), (64, 64))


@pytest.mark.parametrize(
    ("metrics", "layout", "images", "expected"),
    [
        ({"usage": 0.049, "psnr": 30.0}, ONE, 1000, True),
        ({"usage": 0.05}, ONE, 1000, False),
        ({"usage_0": 0.9, "usage_1": 0.01}, TWO, 1000, True),
        ({"usage_0": 0.9, "usage_1": 0.9}, TWO, 1000, False),
        ({"usage": 16 / 512}, ONE, 1, False),  # every code of the one image is another
        ({"usage": 1 / 512}, ONE, 2, True),  # all 32 codes are the same
        ({"usage_0": 2 / 64, "usage_1": 8 / 64}, TWO, 2, False),
    ],
)
def test_a_codebook_has_collapsed_under_a_twentieth_of_what_could_be_in_use(metrics, layout, images, expected):
    assert collapsed(metrics, layout, images) is expected


@pytest.mark.parametrize("words", [TINY, tiny("fsq"), tiny("cosine"), tiny("lfq"), HIERARCHY], ids=str)
def test_what_is_advised_can_be_given(words):
    ideas = re.findall(r"(stage1[\w./]*=\S+) \(", advice(compose(*words)["stage1"]))
    assert len(set(ideas)) == 3
    for idea in ideas:
        shown = [word for word in words if not (idea.startswith("stage1/") and word.startswith("stage1.quantizer."))]
        assert compose(*shown, idea) != compose(*words)


def test_a_training_that_ends_collapsed_is_no_success(monkeypatch, tmp_path, capsys):
    metrics = {"psnr": 9.0, "usage": 0.01, "perplexity": 1.2}
    monkeypatch.setattr(tokenizer_stage, "fit", lambda *arguments: metrics)
    train_stage1.train_stage1(compose(*TINY, f"output={tmp_path}"))
    said = capsys.readouterr().out.replace("\n", "")
    assert "! tokenizer: 9.00 dB" in said
    assert "the codebook collapsed: try stage1/quantizer=fsq" in said
    assert "✓" not in said
