import signal

import pytest
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from pipelines.training.checkpoint_files import newest
from tests.support.resuming import assert_same, final_state
from tests.support.two_ranks import Shown, Signal, draws_shown, train

INTERRUPTED = (ProcessExitedException, ProcessRaisedException)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, forked):
    folder = tmp_path_factory.mktemp("whole")
    train("stage1", folder)
    return final_state(folder)


# More of them, at other places and of stage two, in tests/faults.
@pytest.mark.parametrize(
    ("rank", "number", "step", "batch"),
    [
        (0, signal.SIGTERM, 3, None),
        (1, signal.SIGTERM, 3, None),
        (0, signal.SIGTERM, 4, 0),
        (1, signal.SIGTERM, 4, 0),
        (1, signal.SIGKILL, 5, None),
    ],
)
def test_a_signal_to_one_rank_ends_both_and_changes_no_bit(rank, number, step, batch, whole, tmp_path):
    with pytest.raises(INTERRUPTED) as ended:
        train("stage1", tmp_path, callbacks=[Signal(rank, number, step, batch)])
    if number == signal.SIGTERM:
        # Anything else that ends a process, before or after, has another code, and says itself what it was.
        assert isinstance(ended.value, ProcessExitedException), ended.value
        assert ended.value.exit_code == 128 + signal.SIGTERM
        assert newest(tmp_path).step == step
    train("stage1", tmp_path)
    assert_same(final_state(tmp_path), whole)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on_with_the_same_images(before, after, forked, tmp_path):
    shown = tmp_path / "shown"
    shown.mkdir()
    with pytest.raises((*INTERRUPTED, SystemExit)):
        train("stage2", tmp_path, before, [Shown(shown), Signal(0, signal.SIGTERM, 4, None)])
    for leftover in shown.glob(f"batch-4-of-{before}-*"):  # begun, not trained on
        leftover.unlink()
    train("stage2", tmp_path, after, [Shown(shown)])
    assert {path.name.split("-")[3] for path in shown.iterdir()} == {"1", "2"}
    assert draws_shown(shown) == {epoch: list(range(10 * epoch, 10 * epoch + 10)) for epoch in range(3)}
