"""Which of several processes that share a run this one is, as whoever started it tells; its GPU, and its memory.

Each process of a machine computes on the GPU of its local rank, counted on from the first where there are fewer; the
processes of a pool's second worker count on from those of the first. A run that asks for no GPU sees none.
"""

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_KEPT = 1 << 30  # bytes


@dataclass(frozen=True)
class ProcessPlace:
    """A process among those that share a run, in the words of `torch.distributed.init_process_group`.

    local_rank: counts the processes of one machine, of several runs there may be at once: each has a GPU of its own.
    """

    rank: int
    world_size: int
    local_rank: int
    init_method: str


def place_from_torchrun() -> ProcessPlace | None:
    """Return this process's place where torchrun, or a launcher that speaks as it does, started it; None elsewhere."""
    if not {*TORCHRUN, "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return None
    rank, world_size, local_rank = (int(os.environ[name]) for name in TORCHRUN)
    return ProcessPlace(rank, world_size, local_rank, "env://")


def place_from_submitit() -> ProcessPlace | None:
    """Return this process's place in a SLURM job of submitit's; None elsewhere."""
    if not under_slurm():
        return None
    from submitit import JobEnvironment

    job = JobEnvironment()
    # A file beside the job's logs, which all its nodes see: no port to choose, and no name of a node to look up.
    attempt = os.environ.get("SLURM_RESTART_COUNT", "0")
    rendezvous = job.paths.folder / f"rendezvous-{job.job_id}-{attempt}"
    return ProcessPlace(job.global_rank, job.num_tasks, job.local_rank, file_url(rendezvous))


def places_on_this_machine(folder: Path, world_size: int, slot: int = 0) -> list[ProcessPlace]:
    """Return the places of processes that meet in a folder of their own.

    slot: which of several such groups on this machine it is, all of one size.
    """
    init_method = file_url(folder / "rendezvous")
    return [ProcessPlace(rank, world_size, slot * world_size + rank, init_method) for rank in range(world_size)]


def under_slurm() -> bool:
    """Tell whether submitit started this process in a job of SLURM's.

    SLURM's own variables do not count: a shell on a node has them too, and what is started there is alone.
    """
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def file_url(path: Path) -> str:
    """Return the URL by which processes meet at a file; torch takes it as it is, also where there is a space in it."""
    return f"file://{path.absolute()}"


def hide_gpus() -> None:
    """Let torch find no GPU in this process and those that it starts; it must not have looked for them yet."""
    os.environ[VISIBLE] = ""


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one.

    By default glibc gives every large tensor back to the system as soon as it is freed, so that each step pays again
    for pages which the system must first clear: an eighth of a bf16 step of SiT-S/2 (benchmarks/README.md). The
    process then holds its peak until it ends. Other C libraries have no such setting, and are left as they are.
    """
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, -1)


def take_gpu(place: ProcessPlace) -> None:
    """Choose this process's GPU among those that it sees, for all that it computes; SLURM may show it its own only."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
