"""Processes that share one run: which of them this is, and what they tell each other.

torchrun, submitit under SLURM or `harness run` starts them. One process alone has no group, and asks nobody.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from harness.engine.rendezvous import meet_over_network
from harness.errors import user_error
from harness.gpu import hide_gpus, take_gpu
from harness.process_group import (
    WITHOUT,
    ProcessPlace,
    meeting_point,
    place_from_submitit,
    place_from_torchrun,
    remark_on_waiting,
)

T = TypeVar("T")
# Processes give their gradients within seconds of each other: one that has not after so long hangs, and so does a link,
# and then the job is to fail and not to burn its hours.
PATIENCE = timedelta(minutes=30)
# What is only said waits for the first process while it measures, and that takes as long as it takes. A process that
# dies ends no wait by itself: it closes its connections (gloo), and whoever started the processes ends the others.
PATIENCE_WHILE_ONE_WORKS = timedelta(days=7)


@dataclass(frozen=True)
class World:
    """The processes that share a run, seen from one of them; the one of rank 0 leads: it alone decides and writes.

    patient: the group, on the CPU, by which they wait for each other as long as it takes; gradients and means go by the
    default group, which is given up after half an hour.
    """

    rank: int = 0
    size: int = 1
    patient: dist.ProcessGroup | None = field(default=None, compare=False, repr=False)

    @property
    def leads(self) -> bool:
        """Tell whether this is the process that decides and writes."""
        return self.rank == 0

    def share(self, n: int) -> range:
        """Return which of n samples are this process's: as many as every other's, and contiguous."""
        assert n % self.size == 0, f"{n} samples for {self.size} processes"
        return range(n // self.size * self.rank, n // self.size * (self.rank + 1))

    def decide(self, choose: Callable[[], T]) -> T:
        """Return what `choose` says in the leading process; in the others it is not called."""
        if self.size == 1:
            return choose()
        decision: list[T | None] = [choose() if self.leads else None]
        dist.broadcast_object_list(decision, src=0, group=self.patient, device=torch.device("cpu"))
        return decision[0]  # type: ignore[return-value]

    def any(self, here: bool) -> bool:
        """Tell, in all processes, whether it is so in one of them."""
        return bool(self.largest(here))

    def largest(self, here: float) -> float:
        """Return the largest of all processes' numbers, in all of them."""
        if self.size == 1:
            return here
        anywhere = torch.tensor(float(here), dtype=torch.float64)  # on the CPU: the GPU's queue is not waited for
        dist.all_reduce(anywhere, dist.ReduceOp.MAX, group=self.patient)
        return float(anywhere)

    def mean(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the means of tensors over the processes, the same in each; all must have the same names and shapes."""
        if self.size == 1:
            return tensors
        totals = {name: tensors[name].to(torch.float32, copy=True) for name in sorted(tensors)}
        for total in totals.values():
            dist.all_reduce(total)
        return {name: total / self.size for name, total in totals.items()}

    def all_gather(self, part: T) -> list[T]:
        """Return what every process has, in the order of ranks, in all of them."""
        parts: list[T] = [part] * self.size
        if self.size > 1:
            dist.all_gather_object(parts, part, group=self.patient)
        return parts

    def gather(self, part: Tensor) -> list[Tensor]:
        """Return every process's tensor on the CPU, all of one shape, in the leading process; nothing in the others."""
        if self.size == 1:
            return [part]
        parts = [torch.empty_like(part) for _ in range(self.size)] if self.leads else None
        dist.gather(part, parts, dst=0, group=self.patient)
        return parts or []


ALONE = World()
_joined: list[World] = []  # the world that this process has joined, where it has


@contextmanager
def joined(place: ProcessPlace | None = None, on_gpu: bool = True) -> Iterator[World]:
    """Join the processes that share a run and leave them at the end; where this one has joined before, stay.

    place: where the launcher did not say it in the environment. on_gpu: else torch is to find no GPU.
    """
    if not on_gpu:
        hide_gpus()
    if _joined:
        yield _joined[0]
        return
    place = place or place_from_torchrun() or place_from_submitit()
    if place:
        take_gpu(place)
    if not place or place.world_size == 1:
        yield ALONE
        return
    world = _meet(place)
    _joined.append(world)
    yield world
    dist.destroy_process_group()  # not after a failure: the others may be waiting for it, and this process ends
    _joined.clear()


def _meet(place: ProcessPlace) -> World:
    """Wait for the other processes, and make the groups of them all.

    Raises:
        UserError: where they are to meet nobody can be met.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    problem = f"process {place.rank} of {place.world_size} cannot meet the others at {meeting_point(place)}"
    with remark_on_waiting(place), user_error(problem, WITHOUT, (RuntimeError, OSError)):
        where = {"store": meet_over_network(place)} if place.several_nodes else {"init_method": place.init_method}
        dist.init_process_group(backend, timeout=PATIENCE, rank=place.rank, world_size=place.world_size, **where)
        patient = dist.new_group(backend="gloo", timeout=PATIENCE_WHILE_ONE_WORKS)
    assert isinstance(patient, dist.ProcessGroup)  # a number in a process that is left out, and none is
    return World(place.rank, place.world_size, patient)
