"""Training in random orders: how many rows, which orders, and what a step's loss is."""

import copy

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, TensorDataset

from stage1_vqvae.codes import CodeLayout
from stage2_prior import PriorTraining
from stage2_prior.pixelcnn import PixelCNN
from stage2_prior.random_order import RandomOrder, draw_orders
from stage2_prior.transformer import Transformer
from tests.support.orders import reordered
from tests.support.small_priors import LAYOUT, build

TRANSFORMER = build(Transformer)


def test_the_probability_falls_in_a_line():
    order = RandomOrder(0.5, 0.75)
    found = [order.probability(step, 100) for step in (0, 50, 55, 60, 75, 99)]
    assert found == pytest.approx([1, 1, 0.8, 0.6, 0, 0])
    assert [RandomOrder(0, 1).probability(step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_shares_out_of_order_are_refused(shares):
    with pytest.raises(ValueError, match=r"random_order is two shares .* rising order, .* got \["):
        RandomOrder(*shares)


def test_positions_are_shuffled_within_their_grids():
    torch.manual_seed(0)
    orders = draw_orders(CodeLayout(((2, 2), (1, 3)), (5, 7)), 2000, 0.75, torch.device("cpu")).numpy()
    assert (np.sort(orders[:, :4]) == np.arange(4)).all()
    assert (np.sort(orders[:, 4:]) == np.arange(4, 7)).all()
    raster = (orders == np.arange(7)).all(1).mean()
    assert raster == pytest.approx(0.25 + 0.75 / (24 * 6), abs=0.03)
    # Every position comes first as often as any other: a quarter of the 24 orders, with those in raster order on top.
    first = np.bincount(orders[:, 0], minlength=4) / 2000
    np.testing.assert_allclose(first, [0.25 + 0.75 / 4, *[0.75 / 4] * 3], atol=0.04)


def test_orders_are_drawn_on_the_device_alone():
    before = torch.get_rng_state()
    orders = draw_orders(CodeLayout(((2, 2), (1, 3)), (5, 7)), 4, 0.5, torch.device("meta"))
    assert torch.equal(torch.get_rng_state(), before)  # none of the CPU's random numbers
    assert orders.device.type == "meta"
    assert orders.shape == (4, 7)


class Watched(PriorTraining):
    """Keeps what every step was given and what came out."""

    def training_step(self, batch, batch_idx):
        self.steps = getattr(self, "steps", [])
        before = copy.deepcopy(self.model)
        found = super().training_step(batch, batch_idx)
        self.steps.append((before, batch["codes"], batch["labels"], batch.get("order"), found["loss"].item()))
        return found


def watched(order):
    """The steps of a training of six."""
    torch.manual_seed(0)
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (24, 6)))
    module = Watched(copy.deepcopy(TRANSFORMER), 0.0, random_order=order)
    options = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=1, logger=False, accelerator="cpu", **options)
    trainer.fit(module, DataLoader(TensorDataset(codes, torch.arange(24) % 2), batch_size=4))
    return module.steps


def test_a_steps_loss_is_that_of_every_row_in_its_order():
    steps = watched((0.3, 0.8))  # of six: all rows, all rows, 0.93, 0.6, 0.27, none
    assert [order is None for *_, order, _ in steps] == [False] * 5 + [True]
    assert any(
        (order != torch.arange(6)).any() and (order == torch.arange(6)).all(1).any() for *_, order, _ in steps[2:5]
    )
    for model, codes, labels, order, loss in steps[:5]:
        rows = zip(codes, labels, order, strict=True)
        nats = [-reordered(model, row).log_prob(own[row][None], label[None]).item() / 6 for own, label, row in rows]
        assert loss == pytest.approx(np.mean(nats), rel=1e-5)


def test_off_no_random_number_is_drawn_for_it():
    torch.manual_seed(5)
    module = PriorTraining(TRANSFORMER)
    module.on_train_batch_start({}, 0)
    following = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), following)


def test_a_prior_of_raster_order_alone_is_refused():
    model = build(PixelCNN)
    with pytest.raises(ValueError, match=r"stage2.random_order: a PixelCNN .* raster order alone: give null"):
        PriorTraining(model, random_order=(0.5, 0.75))
    codes = torch.zeros(1, LAYOUT.length, dtype=torch.int64)
    with pytest.raises(ValueError, match="a PixelCNN predicts codes in raster order alone"):
        model.nats(codes, order=torch.arange(LAYOUT.length)[None])
