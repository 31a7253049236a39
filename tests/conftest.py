import pytest
import torch
from hypothesis import settings

from pipelines.tasks import evaluate
from pipelines.tasks.run import run
from tests.support.machines import here  # noqa: F401  a fixture
from tests.support.quick_features import QuickFeatures
from tests.support.tiny import HIERARCHY, TINY, compose
from tests.support.two_ranks import forked  # noqa: F401  a fixture

# Tensors are tiny here: more threads than one only wait for each other, and round differently.
torch.set_num_threads(1)

# No example fails for its time: another program may have the processor.
settings.register_profile("any time", deadline=None)
settings.load_profile("any time")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The folder of a whole run with the smallest settings; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run(compose(*TINY, f"output={folder}"))
    return folder


@pytest.fixture(scope="session")
def tiny_hierarchy(tmp_path_factory):
    """The folder of a whole run of two levels with the smallest settings; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("runs") / "hierarchy"
    run(compose(*HIERARCHY, f"output={folder}"))
    return folder


@pytest.fixture(scope="session", autouse=True)
def quick_features():
    """Evaluations in this process compare sets in a few features that take no network of seconds."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(evaluate, "Lite0Features", QuickFeatures)
        context.setattr(evaluate, "is_installed", lambda: True)
        yield
