import pytest

from tests.second_device.device import HostSynchronisation, second_device
from tests.second_device.known import KNOWN


@pytest.fixture
def second():
    """The second device; see :mod:`tests.second_device`."""
    return second_device()


def pytest_collection_modifyitems(items):
    for item in items:
        reason = KNOWN.get(f"{item.path.stem.removeprefix('test_')}: {item.name.removeprefix('test_')}")
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, raises=HostSynchronisation, strict=True))
