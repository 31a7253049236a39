"""Every option of conf/stage1/quantizer, and nested ones, from training to samples."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.artifacts.models import load_tokenizer
from pipelines.tasks.run import run
from stage2_prior.code_store.store import CodeStore
from tests.support.tiny import compose, tiny

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(path.stem for path in (CONF / "stage1" / "quantizer").glob("*.yaml"))
INSIDE = "stage1/quantizer@stage1.quantizer.quantizer"
NESTED = {
    "residual of fsq": [
        *tiny("residual")[:-3],
        f"{INSIDE}=fsq",
        "stage1.quantizer.quantizer.levels=[4,4]",
        "stage1.quantizer.depth=2",
    ],
    "product of lfq": [
        *tiny("product")[:-3],
        f"{INSIDE}=lfq",
        "stage1.quantizer.quantizer.dim=4",
        "stage1.quantizer.groups=2",
    ],
}
RUNS = {**{name: tiny(name) for name in OPTIONS}, **NESTED}


@pytest.mark.parametrize("name", RUNS)
def test_runs_from_training_to_samples(name, tmp_path):
    prior = ["stage2=pixelcnn", "stage2.model.width=8"] if name == "product" else []
    words = [word for word in RUNS[name] if not (prior and word.startswith("stage2.model."))]
    run(compose(*words, *prior, "data.augmentation.shift=0", f"output={tmp_path}"))
    tokenizer, _ = load_tokenizer(tmp_path / "tokenizer")
    layout = tokenizer.layout
    assert CodeStore.open(tmp_path / "codes" / "train").layout == layout
    assert layout.length == 16 * len(tokenizer.quantizer.codebook_sizes)
    with np.load(tmp_path / "samples" / "images.npz") as samples:
        codes, images = torch.from_numpy(samples["codes"]), samples["images"]
    layout.check(codes)
    with torch.no_grad():
        drawn = ((tokenizer.decode(codes) + 1) * 127.5).round().byte().movedim(1, -1)
    np.testing.assert_allclose(drawn.numpy().astype(int), images.astype(int), atol=1)
    assert (tmp_path / "report.html").is_file()
