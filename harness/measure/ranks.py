"""Processes that share one measurement: torchrun starts them, each extracts the features of its share of the images."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes, seen from one of them; one process alone asks nobody."""

    rank: int = 0
    size: int = 1

    def gather(self, part: T) -> list[T]:
        """Return every process's part, in the order of ranks, in all of them."""
        if self.size == 1:
            return [part]
        import torch.distributed as dist

        parts: list[T] = [part] * self.size
        dist.all_gather_object(parts, part)
        return parts

    def decide(self, choose: Callable[[], T]) -> T:
        """Return what `choose` says in the process of rank 0; in the others it is not called."""
        return self.gather(choose() if self.rank == 0 else None)[0]  # type: ignore[return-value]


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun started, and leave them at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    import torch.distributed as dist

    dist.init_process_group("gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
