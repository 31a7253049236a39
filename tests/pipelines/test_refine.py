"""``refine``: codes exchanged for better ones, by a command and in Python."""

import pytest
import torch

from pipelines.generator import Generator
from pipelines.tasks.reconstruct import reconstruct
from stage1_vqvae.files import read_json
from tests.support.tiny import compose


def test_reconstructions_come_nearer(tiny_run, tmp_path):
    found = {}
    for sweeps in (0, 1):
        asked = compose(f"model={tiny_run}", f"output={tmp_path}/{sweeps}", f"refine={sweeps}", command="reconstruct")
        found[sweeps] = read_json(reconstruct(asked))
    assert found[1]["mse"] < found[0]["mse"]
    pictures = [(tmp_path / f"{sweeps}" / "reconstructions.png").read_bytes() for sweeps in (0, 1)]
    assert pictures[0] != pictures[1]


def test_the_generator_takes_it(tiny_run):
    generator = Generator.load(tiny_run)
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    plain, better = generator.encode(images), generator.encode(images, refine=2)
    errors = [(generator.decode(codes) - images).square().flatten(1).sum(1) for codes in (plain, better)]
    assert errors[1].sum() < errors[0].sum()
    assert torch.equal(generator.encode(images[3], refine=2), better[3:4])
    assert torch.equal(generator.reconstruct(images, refine=2), generator.decode(better))
    with pytest.raises(ValueError, match="refine"):
        generator.encode(images, refine=-1)
