import shutil

import pytest
import torch

from pipelines.artifacts.models import load_tokenizer
from pipelines.tasks.extract_codes import extract_codes
from pipelines.training.images import open_images
from stage2_prior.code_store.store import CodeStore
from tests.support.distributed import on_two_ranks
from tests.support.tiny import TINY, compose

SHAKEN = ["codes.copies=2", "data.augmentation.shift=2", "batch_size=700"]


@pytest.fixture
def tokenizer_alone(tiny_run, tmp_path):
    """A run whose tokenizer is trained, and nothing else done."""
    shutil.copytree(tiny_run / "tokenizer", tmp_path / "run" / "tokenizer")
    return tmp_path / "run"


def _extract(rank, settings):
    extract_codes(settings)
    return rank


def test_two_processes_write_the_same_bytes_as_one(tokenizer_alone, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tokenizer_alone, other)
    extract_codes(compose(*TINY, *SHAKEN, f"output={tokenizer_alone}"))
    on_two_ranks(_extract, compose(*TINY, *SHAKEN, f"output={other}"))
    files = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert any(path.suffix == ".safetensors" and "codes" in path.parts for path in files)
    for path in files:
        assert (other / path).read_bytes() == (tokenizer_alone / path).read_bytes(), path


def test_first_copy_is_the_image_itself_and_the_second_is_augmented(tokenizer_alone):
    settings = compose(*TINY, *SHAKEN, f"output={tokenizer_alone}")
    extract_codes(settings)
    store = CodeStore.open(tokenizer_alone / "codes" / "train")
    images = open_images(settings)
    tokenizer, _ = load_tokenizer(tokenizer_alone / "tokenizer")
    count = len(images.train)
    assert len(store) == 2 * count
    rows = [0, 5, 77, count - 1]
    batch = images.train.__getitems__(rows)
    with torch.no_grad():
        plain = tokenizer.encode(batch["images"].permute(0, 3, 1, 2) / 127.5 - 1)
        second = [row + count for row in rows]
        shaken = tokenizer.encode(images.augmentation(batch["images"], torch.tensor(second), seed=0))
    assert torch.equal(store.__getitems__(rows)["codes"], plain)
    assert torch.equal(store.__getitems__(second)["codes"], shaken)
    assert len(CodeStore.open(tokenizer_alone / "codes" / "validation")) == len(images.validation)
    assert store.manifest.augmentation == {"copies": 2, "flip": False, "shift": 2, "rotate": 5.0, "scale": 0.05}
