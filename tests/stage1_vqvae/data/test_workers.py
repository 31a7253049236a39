import pytest

from stage1_vqvae.data.sources import base


@pytest.mark.parametrize(("cores", "processes", "workers"), [(1, 1, 1), (6, 1, 6), (64, 1, 8), (8, 3, 2), (2, 4, 1)])
def test_processes_of_a_machine_share_its_cores_among_their_loaders(cores, processes, workers, monkeypatch):
    monkeypatch.setattr(base, "processors", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert base.workers_of_a_process() == workers
