import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.data import EvaluationOrder, StageData, TrainingOrder


@settings(max_examples=40)
@given(examples=st.integers(1, 20), batch_size=st.integers(1, 30), batches=st.integers(1, 12), seed=st.integers(0, 5))
def test_every_example_once_an_epoch(examples, batch_size, batches, seed):
    draws = np.concatenate(list(TrainingOrder(examples, batch_size, batches, 0, seed)))
    assert len(draws) == batch_size * batches
    for epoch in range(len(draws) // examples):
        part = draws[epoch * examples : (epoch + 1) * examples]
        assert sorted(part) == list(range(epoch * examples, (epoch + 1) * examples))


@settings(max_examples=40)
@given(examples=st.integers(1, 20), batches=st.integers(1, 12), done=st.integers(0, 12))
def test_goes_on_as_if_it_had_never_stopped(examples, batches, done):
    whole = list(TrainingOrder(examples, 4, batches, 0, seed=1))
    rest = TrainingOrder(examples, 4, batches, done, seed=1)
    assert list(rest) == whole[done:]
    assert len(rest) == batches


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_out_the_same_batches(ranks):
    alone = list(TrainingOrder(10, 8, 7, 0, seed=2))
    shared = [list(TrainingOrder(10, 8, 7, 0, 2, rank, ranks)) for rank in range(ranks)]
    for batch, parts in zip(alone, zip(*shared, strict=True), strict=True):
        assert batch == [draw for part in parts for draw in part]


def test_epochs_and_seeds_are_shuffled_apart():
    first = [draw for batch in TrainingOrder(50, 10, 10, 0, seed=0) for draw in batch]
    assert [draw % 50 for draw in first[:50]] != [draw % 50 for draw in first[50:]]
    assert first != [draw for batch in TrainingOrder(50, 10, 10, 0, seed=1) for draw in batch]


def test_a_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(ValueError, match="batch_size 5 among 2 processes: use a multiple of 2"):
        TrainingOrder(10, 5, 1, 0, 0, 0, 2)


@settings(max_examples=30)
@given(examples=st.integers(0, 30), batch_size=st.integers(1, 9), ranks=st.integers(1, 4))
def test_evaluation_sees_every_example_once_on_one_rank(examples, batch_size, ranks):
    orders = [EvaluationOrder(examples, batch_size, rank, ranks) for rank in range(ranks)]
    assert sorted(index for order in orders for batch in order for index in batch) == list(range(examples))
    assert all(len(list(order)) == len(order) for order in orders)


def test_a_batch_larger_than_the_data_is_refused():
    examples = list(range(5))
    StageData(examples, examples, batch_size=5, seed=0, workers=0)
    with pytest.raises(ValueError, match="batch_size 6 is more than the 5 training examples: use at most 5"):
        StageData(examples, examples, batch_size=6, seed=0, workers=0)
