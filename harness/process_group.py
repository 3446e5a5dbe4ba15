"""Which of several processes that share a run this one is, as whoever started it tells, and what it may use."""

import os
from dataclasses import dataclass
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_KEPT = 1 << 30  # bytes


@dataclass(frozen=True)
class Place:
    """A process among those that share a run; `local` counts them on one machine. rendezvous: a URL of torch's."""

    rank: int
    size: int
    local: int
    rendezvous: str


def place_from_torchrun() -> Place | None:
    """Return this process's place where torchrun, or a launcher that speaks as it does, started it; None elsewhere."""
    if not {*TORCHRUN, "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return None
    rank, size, local = (int(os.environ[name]) for name in TORCHRUN)
    return Place(rank, size, local, "env://")


def under_slurm() -> bool:
    """Tell whether submitit started this process in a job of SLURM's.

    SLURM's own variables do not count: a shell on a node has them too, and what is started there is alone.
    """
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def hide_gpus() -> None:
    """Let torch find no GPU in this process and those that it starts; it must not have looked for them yet."""
    os.environ[VISIBLE] = ""


def keep_freed_memory() -> bool:
    """Have the C library keep what a step frees for the next one, and tell whether it can be asked to.

    By default glibc gives every large tensor back to the system as soon as it is freed, so that each step pays again
    for pages which the system must first clear: an eighth of a bf16 step of SiT-S/2 (benchmarks/README.md). The
    process then holds its peak until it ends. Other C libraries have no such setting, and are left as they are.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, -1))


def meeting_at(path: Path) -> str:
    """Return the URL by which processes meet at a file; torch takes it as it is, also where there is a space in it."""
    return f"file://{path.absolute()}"


def place_from_submitit() -> Place | None:
    """Return this process's place in a SLURM job of submitit's; None elsewhere."""
    if not under_slurm():
        return None
    from submitit import JobEnvironment

    job = JobEnvironment()
    # A file beside the job's logs, which all its nodes see: no port to choose, and no name of a node to look up.
    attempt = os.environ.get("SLURM_RESTART_COUNT", "0")
    meeting = job.paths.folder / f"rendezvous-{job.job_id}-{attempt}"
    return Place(job.global_rank, job.num_tasks, job.local_rank, meeting_at(meeting))
