"""The order of training examples, and the LightningDataModule that both stages train on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from pipelines.training.preemption import ignore_signals


class TrainingOrder(Sampler[list[int]]):
    """All batches of a training; each is a function of the seed and the batch's number alone.

    Epochs of shuffled indices follow one another, and a batch may span two epochs. Batch b holds the draws from
    ``b · batch_size`` on. A draw is ``epoch · examples + index``, from which a data set knows epoch and index. To
    resume, only the number of finished batches is needed, also with another number of processes.

    Args:
        examples: Size of the data set.
        batch_size: Draws of a batch, over all ranks.
        batches: Batches of the whole training.
        start: Batches already done.
        seed: Of the shuffling.
        rank: Which part of every batch this process takes.
        ranks: Number of processes.
    """

    def __init__(
        self, examples: int, batch_size: int, batches: int, start: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        if batch_size % ranks:
            raise ValueError(f"batch_size {batch_size} among {ranks} processes: use a multiple of {ranks}")
        self.examples = examples
        self.batch_size = batch_size
        self.batches = batches
        self.start = start
        self.seed = seed
        self.rank = rank
        self.ranks = ranks

    def __len__(self) -> int:
        """Number of batches of the whole training, finished ones included, as Lightning counts progress."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the remaining batches."""
        epoch, order = -1, np.empty(0, dtype=np.int64)
        share = self.batch_size // self.ranks
        for batch in range(self.start, self.batches):
            draws = []
            # Ranks one after another, so that their parts in rank order are the batch that one process would have.
            first = batch * self.batch_size + self.rank * share
            for place in range(first, first + share):
                if place // self.examples != epoch:
                    epoch = place // self.examples
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.examples)
                draws.append(epoch * self.examples + int(order[place % self.examples]))
            yield draws


class EvaluationOrder(Sampler[list[int]]):
    """Every example once, in order, each on one rank: batches of ranks are of uneven number, never padded."""

    def __init__(self, examples: int, batch_size: int, rank: int = 0, ranks: int = 1) -> None:
        self.mine = range(examples)[rank::ranks]
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Batches of this rank."""
        return -(-len(self.mine) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's batches."""
        for first in range(0, len(self.mine), self.batch_size):
            yield list(self.mine[first : first + self.batch_size])


class StageData(LightningDataModule):
    """Training and validation batches from any two data sets that answer ``__getitems__`` with a whole batch.

    Args:
        train: Data set to train on.
        validation: Data set to measure on.
        batch_size: Of a training batch, over all ranks.
        seed: Of the order.
        workers: Processes that prepare batches; 0 for data sets that lie in memory.
    """

    allow_zero_length_dataloader_with_multiple_devices = True  # a rank without validation data is no mistake

    def __init__(self, train: Dataset[Any], validation: Dataset[Any], batch_size: int, seed: int, workers: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, got {batch_size}")
        examples = len(train)  # type: ignore[arg-type]
        if batch_size > examples:
            raise ValueError(
                f"batch_size {batch_size} is more than the {examples} training examples: use at most {examples}"
            )
        self.train = train
        self.validation = validation
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches still to be trained on: all of them, or those after the checkpoint that was loaded."""
        trainer = self.trainer
        assert trainer is not None
        per_step = trainer.accumulate_grad_batches
        order = TrainingOrder(
            len(self.train),  # type: ignore[arg-type]
            self.batch_size,
            trainer.max_steps * per_step,
            trainer.global_step * per_step,
            self.seed,
            trainer.global_rank,
            trainer.world_size,
        )
        return self._loader(self.train, order)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation example once."""
        trainer = self.trainer
        assert trainer is not None
        order = EvaluationOrder(len(self.validation), self.batch_size, trainer.global_rank, trainer.world_size)  # type: ignore[arg-type]
        return self._loader(self.validation, order)

    @property
    def common_validation_batches(self) -> int:
        """Batches that each rank validates on; some ranks have one more."""
        trainer = self.trainer
        assert trainer is not None
        return -(-(len(self.validation) // trainer.world_size) // self.batch_size)  # type: ignore[arg-type]

    def _loader(self, data: Dataset[Any], order: Sampler[list[int]]) -> DataLoader[Any]:
        return DataLoader(
            data,
            batch_sampler=order,
            num_workers=self.workers,
            collate_fn=identity,
            worker_init_fn=ignore_signals,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )


def identity(batch: Any) -> Any:
    """Return the batch as ``__getitems__`` made it."""
    return batch
