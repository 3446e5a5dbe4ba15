"""Which of several processes that share a run this one is, as whoever started it tells; `gpu` has its GPU."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.plain_text import escape_controls

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
LAUNCHER = (*TORCHRUN, "MASTER_ADDR", "MASTER_PORT")
ENVIRONMENT = "env://"
WITHOUT = f"to go on without a launcher: unset {' '.join(LAUNCHER)}"
LARGEST_PORT = 65535
LONG = 60.0  # seconds of waiting for other processes, after which it is said


@dataclass(frozen=True)
class ProcessPlace:
    """A process among those that share a run, in the words of `torch.distributed.init_process_group`.

    local_rank: counts the processes of one machine, of several runs there may be at once: each has a GPU of its own.
    several_nodes: the file of `init_method` is on a filesystem of several machines, where it is slow to meet.
    """

    rank: int
    world_size: int
    local_rank: int
    init_method: str
    several_nodes: bool = False


def place_from_torchrun() -> ProcessPlace | None:
    """Return this process's place where torchrun, or a launcher that speaks as it does, started it; None elsewhere.

    Raises:
        UserError: what the environment says is no place: left over in a shell, as a rule.
    """
    given = {name: os.environ[name] for name in LAUNCHER if name in os.environ}
    rank, world_size, local_rank = _number("RANK", given), _number("WORLD_SIZE", given, 1), _number("LOCAL_RANK", given)
    if len(given) < len(LAUNCHER) and (rank, world_size) == (0, 1):
        return None
    _check_place(rank, world_size, local_rank, given)
    return ProcessPlace(rank, world_size, local_rank, ENVIRONMENT)


def check_alone(command: str) -> None:
    """Refuse a launcher's processes where a command shares no work: each would do all of it, one in the other's way.

    Raises:
        UserError: this is one of several, or as `place_from_torchrun`.
    """
    place = place_from_torchrun()
    if place and place.world_size > 1:
        raise UserError(
            f"{command}: it shares no work, and each of the WORLD_SIZE={place.world_size} processes would do all of "
            f"it; start it once, without torchrun ({WITHOUT})"
        )


def _number(name: str, given: Mapping[str, str], default: int = 0) -> int:
    """Return what a variable says.

    Raises:
        UserError: it is no whole number from 0 on.
    """
    words = given.get(name, str(default))
    if not (words.isascii() and words.isdecimal()):
        raise UserError(f"{name}={words!r} in the environment: a whole number from 0 on is expected; {WITHOUT}")
    return int(words)


def _check_place(rank: int, world_size: int, local_rank: int, given: Mapping[str, str]) -> None:
    """Refuse variables that cannot be those of one launcher.

    Raises:
        UserError: which, and what is expected.
    """
    words = " ".join(f"{name}={value!r}" for name, value in given.items())
    if missing := [name for name in LAUNCHER if not given.get(name, "").strip()]:
        raise UserError(f"{words} in the environment, and no {', no '.join(missing)}; {WITHOUT}")
    if rank >= world_size or local_rank >= world_size:
        raise UserError(f"{words} in the environment: of WORLD_SIZE processes the last is WORLD_SIZE - 1; {WITHOUT}")
    if not 0 < _number("MASTER_PORT", given) <= LARGEST_PORT:
        raise UserError(f"{words} in the environment: a port is a number from 1 to {LARGEST_PORT}; {WITHOUT}")


def place_from_submitit() -> ProcessPlace | None:
    """Return this process's place in a SLURM job of submitit's; None elsewhere, as in a shell that one has started."""
    if not under_slurm() or "SUBMITIT_FOLDER" not in os.environ:
        return None
    from submitit import JobEnvironment

    job = JobEnvironment()
    # A file beside the job's logs, which all its nodes see: no port to choose, and no name of a node to look up.
    attempt = os.environ.get("SLURM_RESTART_COUNT", "0")
    rendezvous = job.paths.folder / f"rendezvous-{job.job_id}-{attempt}"
    return ProcessPlace(job.global_rank, job.num_tasks, job.local_rank, file_url(rendezvous), job.num_nodes > 1)


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


@contextmanager
def remark_on_waiting(place: ProcessPlace, seconds: float = LONG) -> Iterator[None]:
    """Say once on the standard error for whom this process waits, where that takes longer than so many seconds."""
    timer = threading.Timer(
        seconds, lambda: print(escape_controls(waiting_words(place, seconds)), file=sys.stderr, flush=True)
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def waiting_words(place: ProcessPlace, seconds: float) -> str:
    """Return in one line for whom a process has waited so long, where, and what to do where nobody will come."""
    others = "process 0" if place.rank else f"{place.world_size - 1} other process(es)"
    advice = f"if nobody starts them, end this one; {WITHOUT}"
    if place.init_method != ENVIRONMENT:
        advice = "if they have ended, end this one; the same command goes on from what is stored"
    this = f"process {place.rank} of {place.world_size}"
    return f"{this} has waited {seconds:.0f} s for {others} at {meeting_point(place)}; {advice}"


def meeting_point(place: ProcessPlace) -> str:
    """Return in words where processes meet."""
    if place.init_method != ENVIRONMENT:
        return place.init_method
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')} (MASTER_ADDR, MASTER_PORT)"
