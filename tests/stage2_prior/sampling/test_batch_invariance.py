import time
from threading import current_thread, main_thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.prior import Prior
from stage2_prior.sampling import batch_invariance
from stage2_prior.sampling.batch_invariance import (
    BASE,
    LARGEST,
    SIZES,
    in_microbatches,
    is_row_invariant,
    microbatches,
    plan,
)
from stage2_prior.sampling.sampler import classes_in_turn, sample_images
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.transformer.model import Transformer

CPU = torch.device("cpu")


@given(first=st.integers(0, 20), count=st.integers(1, 20), size=st.integers(1, 7), step=st.integers(1, 3))
def test_every_row_stands_at_its_images_place_in_a_microbatch_of_full_size(first, count, size, step):
    images = torch.arange(first, first + count * step, step)
    shapes, steps = [], []

    def compute(batch, rows, more):
        shapes.append((len(rows), len(more)))
        assert rows[batch.slots, 0].tolist() == images[batch.rows].tolist()
        place = torch.arange(size)
        threads = torch.full((size,), torch.get_num_threads())
        return [torch.stack([rows[:, 0], more, place, threads], 1), rows[:, 0] + 0.5]

    rows = (images[:, None], images * 2)
    found, halves = in_microbatches(compute, images.tolist(), size, CPU, *rows, progress=steps.append)
    threads = torch.ones_like(images)
    assert torch.equal(found, torch.stack([images, images * 2, images % size, threads], 1))
    assert torch.equal(halves, images + 0.5)
    assert set(shapes) == {(size, size)}
    assert len(steps) == len(shapes)
    assert sum(steps) == count
    assert min(steps) > 0


def test_rows_that_nobody_asked_for_repeat_one_that_is():
    (batch,) = microbatches([5, 6], 4)
    assert batch == ([0, 1], [1, 2])
    seen = []
    in_microbatches(lambda batch, rows: seen.append(rows) or [rows], [5, 6], 4, CPU, torch.tensor([-1, 7]))
    assert seen[0].tolist() == [-1, -1, 7, -1]


def test_the_number_of_threads_is_left_alone():
    def fail(batch, rows):
        raise RuntimeError("no")

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for device in ("cpu", "meta"):  # on another device than the CPU it is computed in this thread
            there, rows = torch.device(device), torch.zeros(1)
            in_microbatches(lambda batch, rows, there=there: [rows.to(there)], [0], 2, there, rows)
            assert torch.get_num_threads() == 2
            with pytest.raises(RuntimeError):
                in_microbatches(fail, [0], 2, there, rows)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_every_thread_that_computes_is_told_to_be_one(monkeypatch):
    told = []
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: told.append((threads, current_thread())))
    in_microbatches(lambda batch, rows: [rows], range(4), 2, CPU, torch.zeros(4))
    assert told
    assert {threads for threads, _ in told} == {1}
    assert main_thread() not in {thread for _, thread in told}


@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_are_computed_at_a_time_than_torch_has_threads(threads, monkeypatch):
    computing, most = set(), []

    def compute(batch, rows):
        computing.add(current_thread())
        most.append(len(computing))
        time.sleep(0.01)  # others could begin meanwhile
        computing.discard(current_thread())
        return [rows]

    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    in_microbatches(compute, range(12), 1, CPU, torch.zeros(12))
    assert max(most) <= threads


def priors():
    torch.manual_seed(0)
    square, levels = CodeLayout(((6, 6),), (64,)), CodeLayout(((2, 2), (4, 4)), (16, 32))
    yield Transformer(square, 3, width=32, layers=2, heads=2)
    yield Transformer(levels, 3, width=32, layers=2, heads=2, kv_heads=2)
    yield PixelCNN(square, 3, width=16, layers=2, attention_every=2, heads=2)
    yield PixelCNN(levels, 3, width=16, layers=2)


PRIORS = [prior.eval() for prior in priors()]
each_prior = pytest.mark.parametrize("prior", PRIORS, ids=["transformer", "two grids", "pixelcnn", "hierarchy"])


@each_prior
def test_trial_logits_are_of_as_many_rows_and_the_same_each_time(prior):
    labels, codes = torch.tensor([0, 2, -1]), torch.zeros(3, prior.layout.length, dtype=torch.int64)
    codes[1] = 1
    found = prior.trial_logits(labels, codes)
    assert found.shape[1:] == (3, prior.layout.vocabulary)
    assert not torch.equal(found[-1, 0], found[-1, 1])
    assert torch.equal(prior.trial_logits(labels, codes), found)


@each_prior
def test_microbatches_of_every_size_that_may_be_chosen_draw_the_same_codes(prior):
    labels = classes_in_turn(BASE + 3, range(3))
    expected = sample_images(prior, labels, 0, settings=SamplingSettings(microbatch_size=BASE))
    for size in SIZES:
        if is_row_invariant(prior, size):
            found = sample_images(prior, labels, 0, settings=SamplingSettings(microbatch_size=size))
            assert torch.equal(found.codes, expected.codes)
            assert torch.equal(found.log_probs, expected.log_probs)


class Rounding(Prior):
    """A prior that computes in another way for fewer rows than some number."""

    def __init__(self, least):
        super().__init__(CodeLayout(((2, 2),), (5,)))
        self.least = least

    def predict(self, codes, labels):
        return torch.zeros(*codes.shape, 5)

    def trial_logits(self, labels, codes):
        return codes[None, :, :1].float() + (1e-6 if len(codes) < self.least else 0.0)


@pytest.mark.parametrize(
    ("least", "images", "expected"), [(1, 1, 1), (4, 1, 4), (4, 3, 4), (1, 3, 4), (1, 100, 64), (16, 1, 16)]
)
def test_the_smallest_size_is_chosen_that_rounds_like_the_base(least, images, expected, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert plan(Rounding(least), range(7, 7 + images)).size == expected


def test_cores_share_the_images(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert plan(Rounding(1), range(64)).size == 8
    assert plan(Rounding(1), range(8)).size == 1


def test_where_others_round_otherwise_the_base_size_is_kept(monkeypatch):
    """Then an image stands where its number says, since rows of a micro-batch may round otherwise too."""
    monkeypatch.setattr(batch_invariance, "_rounds_alike", lambda prior, rows: False)
    assert plan(Rounding(1), range(7, 9)) == (BASE, range(7, 9))
    assert plan(Rounding(1), range(100)).size == BASE
    assert plan(Rounding(1), range(7, 9), candidates=4).size == BASE // 4
    assert plan(Rounding(1), range(7, 9), guided=True).size == BASE


def test_it_is_tried_with_codes_and_labels_that_there_are():
    class Watched(Rounding):
        def trial_logits(self, labels, codes):
            self.tried = getattr(self, "tried", [])
            self.tried.append((labels, codes))
            return super().trial_logits(labels, codes)

    prior = Watched(1)
    prior.num_classes, prior.layout = 3, CodeLayout(((2, 2), (3, 4)), (3, 7))
    assert is_row_invariant(prior, 64)
    labels, codes = (torch.cat(each) for each in zip(*prior.tried, strict=True))
    assert labels.unique().tolist() == [-1, 0, 1, 2]
    assert codes[:, :4].unique().tolist() == list(range(3))
    assert codes[:, 4:].unique().tolist() == list(range(7))
    assert {len(each) for each, _ in prior.tried} == {64, BASE}


def test_a_prior_without_a_trial_gets_the_base_size():
    class Plain(Rounding):
        def trial_logits(self, labels, codes):
            return Prior.trial_logits(self, labels, codes)

    assert plan(Plain(1), range(3)).size == BASE


def test_a_size_of_the_users_is_taken():
    assert plan(Rounding(1), range(3), size=5) == (5, range(3))


@pytest.mark.parametrize("side", [1, 7, 8, 16, 19, 32, 64, 300])
@pytest.mark.parametrize("states", [1, 5])
def test_microbatches_on_a_gpu_fit(side, states):
    prior = Rounding(1).to("meta")
    prior.layout = CodeLayout(((side, side),), (8,))
    size = plan(prior, range(1000), states=states).size
    assert BASE <= size <= LARGEST
    assert plan(prior, range(1000), candidates=4, states=states).size == size // 4
