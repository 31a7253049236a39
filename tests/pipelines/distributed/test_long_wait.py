"""Processes that wait while the first one decodes a data set."""

import time
from datetime import timedelta

import torch.distributed as dist

from pipelines.distributed import collectives
from pipelines.training import images
from tests.support.distributed import on_two_ranks
from tests.support.tiny import TINY, compose


class Slow:
    """Images that the first process decodes for longer than a collective may take, and the others find decoded."""

    def __init__(self, folder):
        self.folder = folder

    def open(self):
        if collectives.rank() == 0:
            time.sleep(3)
            (self.folder / "decoded").touch()
        return (self.folder / "decoded").exists()


def _set_timeout(seconds):
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), dist.group.WORLD)


def _open(rank, folder):
    images.build, images.report_images = lambda *_: Slow(folder), lambda *_: None
    _set_timeout(1)
    found = images.open_images(compose(*TINY))
    _set_timeout(1800)
    return found


def test_processes_wait_for_the_first_one_longer_than_collectives_may_take(tmp_path):
    assert on_two_ranks(_open, tmp_path) == [True, True]


def test_one_process_waits_for_nobody():
    collectives.LongWait().until_all_arrive()
