"""The processes that train one model together, as torchrun starts them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from burnish.errors import TrainingError


@dataclass(frozen=True)
class Ranks:
    """This process's ``rank`` among ``count``. Of one, nothing is sent; of several, each must come to the
    same calls in the same order."""

    rank: int = 0
    count: int = 1

    @classmethod
    def started(cls) -> Ranks:
        """What torchrun's environment variables say."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def sum(self, value: float) -> float:
        """Over all ranks, the same on each."""
        return self._reduced(value, dist.ReduceOp.SUM)

    def max(self, value: float) -> float:
        """The largest of all ranks, the same on each."""
        return self._reduced(value, dist.ReduceOp.MAX)

    def barrier(self) -> None:
        """Wait until all ranks have come here."""
        self.sum(0.0)

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """The block is run by the first rank, then by all others."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()

    def _reduced(self, value: float, how: dist.ReduceOp.RedOpType) -> float:
        if self.count == 1:
            return value
        number = torch.tensor(value, dtype=torch.float64)  # on the CPU, so that it takes gloo
        dist.all_reduce(number, how)
        return float(number)


@contextmanager
def process_group(ranks: Ranks) -> Iterator[None]:
    """Within the block the ranks can reach each other, each on a device of its own where there is CUDA.
    Raises ``TrainingError`` where one of them is lost."""
    if ranks.count == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
        ranks.barrier()  # who leaves first would pull the connection from under the others
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise TrainingError(
            f"rank {ranks.rank} lost the others: {str(error).splitlines()[0]}",
            why="One of them has ended; what it printed says why.",
            fix="Mend that, then go on with --resume.",
        ) from error
    finally:
        gc.collect()  # a model that is still there would hold the group's threads, and abort at exit
        dist.destroy_process_group()
