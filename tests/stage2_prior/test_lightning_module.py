"""A prior is trained by one's own Trainer on the batches of any DataLoader."""

import copy

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, TensorDataset

from stage1_vqvae import CodeLayout
from stage2_prior import PriorTraining
from stage2_prior.batches import training_batch
from stage2_prior.transformer import Transformer

CODES = torch.from_numpy(np.random.default_rng(0).integers(0, 6, (12, 6)))
LABELS = torch.arange(12) % 2

torch.manual_seed(0)
MODEL = Transformer(CodeLayout(((2, 3),), (6,)), 2, width=8, layers=1, heads=2)

LOADERS = {
    "pairs": TensorDataset(CODES, LABELS),
    "grids of small integers": TensorDataset(CODES.view(12, 2, 3).to(torch.uint8), LABELS.to(torch.int32)),
    "mappings": [{"codes": row, "labels": label} for row, label in zip(CODES, LABELS, strict=True)],
}


def trainer(folder, **options):
    return Trainer(
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        accelerator="cpu",
        **options,
    )


def trained(examples, folder):
    torch.manual_seed(0)  # of dropout
    module = PriorTraining(copy.deepcopy(MODEL))
    trainer(folder, max_epochs=1).fit(module, DataLoader(examples, batch_size=4))
    return module.model.state_dict()


@pytest.mark.parametrize("form", LOADERS)
def test_every_form_of_batches_trains_to_the_same_bits(form, tmp_path):
    rows = zip(CODES, LABELS, strict=True)
    own = [{"codes": row, "labels": label, "draws": torch.tensor(0)} for row, label in rows]
    found, expected = trained(LOADERS[form], tmp_path), trained(own, tmp_path)
    assert any(not torch.equal(weight, MODEL.state_dict()[name]) for name, weight in found.items())
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


def test_batches_are_brought_to_one_form_and_the_pipelines_have_it_already():
    module = PriorTraining(MODEL)
    ready = {"codes": CODES, "labels": LABELS, "draws": torch.arange(12)}
    assert module.on_before_batch_transfer(ready, 0) is ready
    assert torch.equal(module.on_before_batch_transfer({"codes": CODES.view(12, 2, 3)}, 0)["codes"], CODES)


def test_codes_without_labels_are_of_the_null_class():
    for batch in (CODES, [CODES], {"codes": CODES}):
        found = training_batch(batch, MODEL)
        assert torch.equal(found["codes"], CODES)
        assert found["labels"].tolist() == [-1] * 12


@pytest.mark.parametrize(("share", "hidden"), [(0.0, 0), (0.3, 30), (1.0, 100)])
def test_a_share_of_the_labels_is_hidden_in_training_and_none_after_it(share, hidden, monkeypatch):
    seen, labels = [], torch.arange(2).repeat(50)
    module = PriorTraining(copy.deepcopy(MODEL), label_dropout=share)
    monkeypatch.setattr(module.model, "nats", lambda codes, labels, order=None: seen.append(labels) or codes.float())
    torch.manual_seed(0)
    batch = {"codes": CODES[torch.arange(100) % 12], "labels": labels}
    found = module.training_step(batch, 0)
    assert found["loss"] is found["nats"]
    assert found["nats"] == batch["codes"].float().mean()
    module.predict_step(batch, 0)
    assert (seen[0] == -1).sum().item() == pytest.approx(hidden, abs=10 * (0 < share < 1))
    assert torch.equal(seen[0][seen[0] >= 0], labels[seen[0] >= 0])
    assert torch.equal(seen[1], labels)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_shares_of_labels_beyond_all_or_none_are_refused(share):
    with pytest.raises(ValueError, match=rf"label_dropout is in \[0, 1\], got {share}"):
        PriorTraining(MODEL, label_dropout=share)


def test_a_progress_bar_shows_the_nats_alone(tmp_path, monkeypatch):
    shown = set()

    def log(module, name, value, prog_bar=False, **options):
        shown.update([name] if prog_bar else [])

    monkeypatch.setattr(PriorTraining, "log", log)
    loader = DataLoader(TensorDataset(CODES, LABELS), batch_size=12)
    trainer(tmp_path, max_epochs=1, log_every_n_steps=1).fit(PriorTraining(copy.deepcopy(MODEL)), loader, loader)
    assert shown == {"train/nats", "validation/nats"}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (CODES.float(), "integers"),
        (CODES + 1, r"codes of grid \(2, 3\) are 0 to 5"),
        (CODES[:, :4], r"integers \[B, 6\] or \[B, 2, 3\] expected"),
        ((CODES, LABELS + 1), "labels are 0 to 1, or -1 for none, got 1 to 2"),
        ((CODES, LABELS[:3]), r"labels are int64 \[12\]"),
        ((CODES, LABELS / 2), r"labels are int64 \[12\], got torch.float32"),
        ({"code": CODES}, "a batch with the key codes"),
        ((CODES, LABELS, LABELS), "a batch of codes, or of codes and labels"),
    ],
)
def test_a_batch_of_anything_else_is_refused_in_one_line(batch, message):
    with pytest.raises(ValueError, match=message):
        training_batch(batch, MODEL)


def test_validation_prediction_and_checkpoints_of_lightning(tmp_path):
    loader = DataLoader(TensorDataset(CODES, LABELS), batch_size=5)
    module = PriorTraining(copy.deepcopy(MODEL))
    own = trainer(tmp_path, max_epochs=1)
    own.fit(module, loader)
    own.save_checkpoint(tmp_path / "prior.ckpt")
    loaded = PriorTraining.load_from_checkpoint(tmp_path / "prior.ckpt", model=copy.deepcopy(MODEL))
    (metrics,) = own.validate(loaded, loader, verbose=False)
    nats = torch.cat(own.predict(loaded, loader))
    expected = -loaded.model.eval().log_prob(CODES, LABELS).detach()
    torch.testing.assert_close(nats.sum(1), expected)
    assert metrics["validation/nats"] == pytest.approx(nats.mean().item(), rel=1e-5)
    assert set(metrics) == {"validation/nats", "validation/bits", "validation/uniform_nats"}


def test_metrics_are_per_code_of_the_split_and_of_each_grid(tmp_path):
    """In nats; beside what is known without a prior: nothing, or the codes' frequencies."""
    torch.manual_seed(0)
    model = Transformer(CodeLayout(((1, 2), (2, 2)), (3, 5)), 2, width=8, layers=1, heads=2)
    codes = torch.cat([CODES[:, :2] % 3, CODES[:, 2:] % 5], dim=1)
    loader = DataLoader(TensorDataset(codes, LABELS), batch_size=5)
    module = PriorTraining(model, unigram_entropy=1.25)
    own = trainer(tmp_path, max_epochs=1, log_every_n_steps=1)
    own.fit(module, DataLoader(TensorDataset(codes, LABELS), batch_size=12))
    assert own.callback_metrics["train/nats"] > 0
    (metrics,) = own.validate(module, loader, verbose=False)
    with torch.no_grad():
        nats = model.eval().nats(codes, LABELS).double().numpy()
    expected = {
        "nats": nats.mean(),
        "bits": nats.mean() / np.log(2),
        "nats_0": nats[:, :2].mean(),
        "nats_1": nats[:, 2:].mean(),
        "uniform_nats": (2 * np.log(3) + 4 * np.log(5)) / 6,
        "unigram_nats": 1.25,
    }
    assert metrics == pytest.approx({f"validation/{name}": value for name, value in expected.items()}, rel=1e-4)


def test_orders_are_random_up_to_a_share_of_the_training_and_raster_from_another(tmp_path, monkeypatch):
    seen = []

    def nats(model, codes, labels=None, order=None):
        seen.append(order)
        return unwatched(model, codes, labels, order)

    unwatched = Transformer.nats
    monkeypatch.setattr(Transformer, "nats", nats)
    torch.manual_seed(0)
    module = PriorTraining(copy.deepcopy(MODEL), random_order=(0.25, 0.75))
    trainer(tmp_path, max_steps=4).fit(module, DataLoader(TensorDataset(CODES, LABELS), batch_size=12))
    first, second, third, last = seen  # of probabilities 1, 1, 0.5 and 0
    raster = torch.arange(6).expand(12, 6)
    for order in (first, second, third):
        assert torch.equal(order.sort(1).values, raster)
    rows = [int((order == raster).all(1).sum()) for order in (first, second, third)]
    assert rows[0] + rows[1] <= 2
    assert 2 <= rows[2] <= 10
    assert last is None
