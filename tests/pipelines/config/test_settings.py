import pytest

from pipelines.config.settings import stage_seed
from tests.support.tiny import TINY, compose


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_stage_has_the_seed_of_the_run_unless_it_has_its_own(stage):
    other = "stage2" if stage == "stage1" else "stage1"
    assert stage_seed(compose(*TINY, "seed=5"), stage) == 5
    apart = compose(*TINY, "seed=5", f"{stage}.seed=7")
    assert (stage_seed(apart, stage), stage_seed(apart, other)) == (7, 5)
    del apart[stage]["seed"]  # of an option that leaves it out
    assert stage_seed(apart, stage) == 5
