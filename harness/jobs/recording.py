"""What a job writes into its run's folder: what is trained, where and with what, signs of life, and how it ended."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from harness import plugins
from harness.config.spec import TrainSpec
from harness.errors import Diverged, UserError
from harness.files import locked, read_json, remove_temporaries, write_bytes
from harness.jobs import code_version
from harness.jobs.failures import class_of
from harness.process_group import under_slurm
from harness.store import records, status
from harness.store.job_part import WHOLE, JobPart
from harness.store.store import PARTS, part_folders

if TYPE_CHECKING:
    from harness.engine.distributed import World
    from harness.networks.encoder import FrozenEncoder

Say = Callable[[str, int], None]  # what is being done, and the training's step
LOCK_SECONDS = 600
SHORT = 2000  # characters of a traceback: with the rest of the file they fit into one block of a disk
PACKAGE = Path(__file__).parents[1]
SOURCE = "source.json"  # in a submission's copy of the code: what `source` says of where it was taken
PACKAGES = ("torch", "torchvision", "timm", "torch-fidelity", "numpy", "safetensors", "scikit-learn", "submitit")
# What SLURM says of a job that its id alone does not.
SLURM = {
    "cluster": "SLURM_CLUSTER_NAME", "job": "SLURM_JOB_ID", "array": "SLURM_ARRAY_JOB_ID",
    "task": "SLURM_ARRAY_TASK_ID", "restarts": "SLURM_RESTART_COUNT", "partition": "SLURM_JOB_PARTITION",
    "nodes": "SLURM_JOB_NODELIST",
}  # fmt: skip


@contextmanager
def run_lock(folder: Path, world: "World") -> Iterator[None]:
    """Lock a training's folder for the processes that share it. A process that is killed lets go of it.

    Under SLURM wait for it: on a node that is given up a process may live on until the node is back.

    Raises:
        Timeout: another job has locked it; in all processes.
        UserError: the filesystem cannot lock.
    """
    with ExitStack() as locks:
        if not world.decide(lambda: _lock(folder, locks)):
            raise Timeout(str(folder / "lock"))
        yield


def _lock(folder: Path, locks: ExitStack) -> bool:
    with suppress(Timeout):
        locks.enter_context(locked(folder / "lock", LOCK_SECONDS if under_slurm() else 0))
        return True
    return False


@contextmanager
def record_attempt(
    folder: Path, train: TrainSpec, steps: int, threads: int, processes: int, part: JobPart = WHOLE,
    compiled: bool = False, sharing: int = 1,
) -> Iterator[Say]:  # fmt: skip
    """Record a job in its run's folder while it works, `processes` together with `threads` each, towards `steps`.

    part: what of the training's work it does; where that is no training, that it has diverged stays true. sharing: how
    many such jobs are at once on each of its GPUs.
    """
    remove_temporaries(folder)
    earlier = _attempts(folder)
    failure = records.Failure.peek(folder)
    if part.stage == 0 or not failure or failure.kind != "diverged":
        (folder / records.Failure.FILE).unlink(missing_ok=True)
    records.write_spec(folder, train)
    code = code_version.version(packages=plugins.packages(train.plugins))
    facts = provenance(folder, threads, processes) | {
        "code": code,
        "part": part.name,
        "compiled": compiled,
        "sharing": sharing,
    }
    attempt = records.Attempt.model_validate({"attempt": len(earlier) + 1} | facts)
    records.Environment(attempts=[*earlier, attempt]).write(folder)
    with heartbeats(folder, steps, steps if part.stage else 0) as say:
        yield say
    ended = attempt.model_copy(update={"end": records.utc(time.time())})
    records.Environment(attempts=[*earlier, ended]).write(folder)


def _attempts(folder: Path) -> list[records.Attempt]:
    """Return the attempts of a folder; in that of one that was killed, its last sign, whose file does not stay."""
    attempts = (records.Environment.read(folder) or records.Environment()).attempts
    if attempts and not attempts[-1].end and (sign := status.last_sign(folder)) and sign.time is not None:
        attempts[-1] = attempts[-1].model_copy(update={"last_sign": records.utc(sign.time)})
    return attempts


def code_of(folder: Path) -> str:
    """Return with which version of the code a training and its measuring were done; "" where that is not known."""
    return code_version.of_attempts(_attempts(folder))


def last_source(folder: Path) -> dict[str, Any]:
    """Return the commit of the last attempt, and whether it was changed."""
    attempt = next(reversed(_attempts(folder)), records.Attempt())
    return {"commit": attempt.commit, "dirty": attempt.dirty}


def take_over_attempts(folder: Path) -> None:
    """Add to a training's attempts those of its shards, whose folders of small files are then removed."""
    shards, earlier = part_folders(folder), _attempts(folder)
    taken = [attempt.model_copy(update={"attempt": 0}) for attempt in earlier]  # by who was killed before the removal
    found = [attempt for shard in shards for attempt in _attempts(shard)]
    new = [a for a in found if a.model_copy(update={"attempt": 0}) not in taken]
    attempts = [*earlier, *sorted(new, key=lambda attempt: attempt.start)]
    if new:
        numbered = [a.model_copy(update={"attempt": number}) for number, a in enumerate(attempts, 1)]
        records.Environment(attempts=numbered).write(folder)
    for shard in shards:
        for path in shard.glob("diff-*.patch"):  # that an attempt names
            path.replace(folder / path.name)
        shutil.rmtree(shard)
    with suppress(OSError):  # another division's are still there, or there never was one
        (folder / PARTS).rmdir()


def provenance(folder: Path, threads: int, processes: int) -> dict[str, Any]:
    """Return the facts of this attempt; `end` is filled in when it ends. Uncommitted changes are kept in `folder`."""
    slurm = {name: os.environ[key] for name, key in SLURM.items() if os.environ.get(key)}
    return {
        "start": records.utc(time.time()),
        "end": None,
        **source(folder),
        "host": platform.node(),
        **_device(processes),
        "threads": threads,
        "processes": processes,
        "versions": {"python": platform.python_version(), **_versions()},
        "slurm_job_id": slurm_job_id(),
        "slurm": slurm or None,
    }


def slurm_job_id() -> str | None:
    """Return the id, as in the queue, of SLURM's job that this process is part of; None where it is of none."""
    array, task, job = (os.environ.get(SLURM[name]) for name in ("array", "task", "job"))
    return f"{array}_{task}" if array and task else job


def _whose() -> dict[str, str]:
    """Return what a sign says of SLURM's job; nothing outside of one, or where its id is none."""
    id = slurm_job_id() if under_slurm() else None
    return {"slurm_job": id} if id and re.fullmatch(r"[0-9]+(_[0-9]+)?", id) else {}


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def source(folder: Path, package: Path = PACKAGE) -> dict[str, Any]:
    """Return commit, whether tracked files differ from it, and the file of `folder` that says how, named by its
    content; unknown outside a git checkout. In a submission's copy of the code they are those of where it was taken."""
    origin = read_json(package / SOURCE)
    if isinstance(origin, dict):
        if origin["diff"]:
            write_bytes(folder / origin["diff"], (package / origin["diff"]).read_bytes())
        return origin
    commit, diff = _checkout(package)
    name = f"diff-{hashlib.sha256(diff).hexdigest()[:12]}.patch" if diff else None
    if diff and name:
        write_bytes(folder / name, diff)
    return {"commit": commit, "dirty": None if diff is None else bool(diff), "diff": name}


def commit(package: Path = PACKAGE) -> dict[str, Any]:
    """Return the commit of the package, and whether it was changed since; None where there is no checkout of it."""
    commit, diff = _checkout(package)
    return {"commit": commit, "dirty": None if diff is None else bool(diff)}


def _checkout(package: Path) -> tuple[str | None, bytes | None]:
    """Return the commit of the package, and the changes since; None and None outside a git checkout of it."""
    if _git(package, "ls-files", "--error-unmatch", "cli.py") is None:  # the checkout around us is somebody else's
        return None, None
    commit = (_git(package, "rev-parse", "HEAD") or b"").decode().strip() or None
    return commit, _git(package, "diff", "--binary", "HEAD", "--", ".")


def _git(folder: Path, *words: str) -> bytes | None:
    """Return what git prints; None where it fails, or is not there."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=20, check=True).stdout
    return None


def _device(processes: int) -> dict[str, Any]:
    """Return what the run computes on: one GPU for each process where there are any, and what drives it."""
    import torch

    if torch.cuda.is_available():
        # The version of NVIDIA's driver is the word after the module's name in what the kernel says of it.
        driver = re.match(r".*? (\d\S*\.\S*)", _content("/proc/driver/nvidia/version"))
        gpu, cuda = torch.cuda.get_device_name(), torch.version.cuda
        return {"device": gpu, "gpus": processes, "driver": driver and driver[1], "cuda": cuda}
    model = re.search(r"^model name.*?:(.*)$", _content("/proc/cpuinfo"), re.MULTILINE)
    return {"device": model[1].strip() if model else platform.processor() or platform.machine(), "gpus": 0}


def _content(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text()
    return ""


@contextmanager
def heartbeats(folder: Path, total: int, step: int = 0) -> Iterator[Say]:
    """Write signs of life into a run's own folder, true from any host; yield what is called to say what is being done.

    step: of so many in all, where it begins.
    After a failure the last sign stays until the failure is stored: it says at which step that was.
    """
    here = {"host": platform.node(), "pid": os.getpid(), **_whose()}
    sign = {"phase": "starting", "step": step, "total": total, **here}

    def write() -> None:
        records.Heartbeat.model_validate(sign | {"time": time.time()}).write(folder)

    write()
    try:
        with repeating(records.HEARTBEAT_SECONDS, write):
            yield lambda phase, step: sign.update(phase=phase, step=step)
    except BaseException:
        write()
        raise
    (folder / records.Heartbeat.FILE).unlink(missing_ok=True)


@contextmanager
def repeating(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Do something every so many seconds, in a thread of its own; a full disk may have room again for the next time."""
    stopped = threading.Event()

    def repeat() -> None:
        while not stopped.wait(seconds):
            with suppress(OSError):
                act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def record_failure(folder: Path, error: BaseException) -> str:
    """Store a failure where the collector finds it, and return it in words.

    Raises:
        OSError: it cannot be stored, not even in the room that the last sign of life took on a disk that is full.
    """
    sign, trace = records.Heartbeat.read(folder), "".join(traceback.format_exception(error))
    step = sign.step if sign else None
    message = str(error) if isinstance(error, UserError | Diverged) else f"{type(error).__name__}: {error}"
    when = {"step": step, "time": time.time(), **_whose()}
    failure = records.Failure(kind=class_of(error), message=message, traceback=trace, **when)
    try:
        failure.write(folder)
    except OSError:
        (folder / records.Heartbeat.FILE).unlink(missing_ok=True)
        failure.model_copy(update={"traceback": trace[-SHORT:]}).write(folder)
    (folder / records.Heartbeat.FILE).unlink(missing_ok=True)
    return message


def record_model_facts(folder: Path, train: TrainSpec, encoder: "FrozenEncoder | None") -> None:
    """Write the numbers of parameters and, where there is an alignment, which encoder it was.

    Raises:
        UserError: the training began with other weights of the encoder; half of each would be neither.
    """
    facts, earlier = model_facts(train, encoder), records.ModelFacts.read(folder)
    began = earlier.encoder.sha256 if earlier and earlier.encoder else None
    if encoder and began and began != encoder.record["sha256"]:
        raise UserError(
            f"{folder / facts.FILE}: this training began with encoder weights of sha256 {began[:12]}, and now finds "
            f"{encoder.record['sha256'][:12]}; bring the first back, or remove the run's folders to begin anew"
        )
    if facts != earlier:
        facts.write(folder)


def model_facts(train: TrainSpec, encoder: "FrozenEncoder | None") -> records.ModelFacts:
    """Count what the sampled network, the terms and the encoder hold; the network's positions are not learned."""
    import torch

    from harness.networks.build import build_net, build_terms

    with torch.device("meta"):  # counted without being made
        net = build_net(train)
        terms = build_terms(train, encoder.width if encoder else None) if encoder or not train.alignment else []
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    soft = list(net.soft_tokens.parameters()) if net.soft_tokens is not None else []  # sampled, but not of the network
    projector = sum(p.numel() for p in (*soft, *(p for term in terms for p in term.parameters()))) or None
    record = records.EncoderRecord.model_validate(encoder.record) if encoder else None
    return records.ModelFacts(parameters=parameters, projector_parameters=projector, encoder=record)
