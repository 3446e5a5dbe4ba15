"""What this machine has for the harness: torch, GPUs, a compiler, disk, data and weights.

`this_machine` asks torch and the system; what is found is judged from its answers alone, so that tests can tell of any
machine.
"""

import datetime
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.errors import UserError, one_line, user_error
from harness.files import check_writable, nearest_existing
from harness.jobs import preflight
from harness.jobs.job import Job

PATIENCE = 120.0  # seconds that the process on the GPU may take
LITTLE = 10**9  # bytes of disk below which nothing can be run
DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of NVIDIA's driver, of Windows' for Linux, of AMD's
NO_GPU = "take a scale with resources.gpus: 0, or another machine"
INSTALL = "pip install -c constraints.txt -e '.[train]'"


@dataclass(frozen=True)
class Finding:
    """One thing that was examined; message: what was found, and where it is not well what to do.

    optional: nothing that was asked for needs it.
    """

    subject: str
    well: bool
    message: str
    optional: bool = False

    @property
    def wrong(self) -> bool:
        """Whether something that was asked for needs it, and it is not well."""
        return not self.well and not self.optional


def examine(subject: str, check: Callable[[], object], message: str = "", optional: bool = False) -> Finding:
    """Examine one thing; what the check raises is what is wrong with it, and else the message or what it returns."""
    try:
        result = check()
        return Finding(subject, True, message or str(result))
    except Exception as error:
        words = str(error) if isinstance(error, UserError) else one_line(error)
        return Finding(subject, False, words.removeprefix(f"{subject}: "), optional)


@dataclass(frozen=True)
class Gpu:
    """A GPU as torch sees it; free and total: bytes of its memory."""

    name: str
    free: int
    total: int
    bf16: bool


@dataclass(frozen=True)
class Machine:
    """What torch and the system say.

    torch: its version and what it was built for; None where it cannot be imported. gpus: those it sees. problem: why
    torch, or a GPU that the system has, cannot be used. compiler: of C; None without one. headers: where Python.h is to
    be. trial: computes on the first GPU in a process of its own, and says what came of it.
    """

    torch: str | None
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    compiler: str | None = None
    headers: Path = Path(sysconfig.get_path("include"))
    trial: Callable[[], str] = lambda: ""


def this_machine() -> Machine:
    """Ask torch and the system."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
    try:
        import torch
    except Exception as error:
        return Machine(None, problem=one_line(error))
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no GPU"
    gpus, problem = tuple[Gpu, ...](), ""
    try:
        if torch.cuda.is_available():
            gpus = tuple(_gpu(i) for i in range(torch.cuda.device_count()))
        elif any(Path(device).exists() for device in DEVICES):
            problem = _why_none()
    except Exception as error:
        problem = one_line(error)
    return Machine(f"{torch.__version__}, built for {built}", gpus, problem, compiler, trial=in_a_process)


def _gpu(i: int) -> Gpu:
    import torch

    free, total = torch.cuda.mem_get_info(i)
    with torch.cuda.device(i):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Gpu(torch.cuda.get_device_name(i), free, total, bf16)


def _why_none() -> str:
    """Say why torch sees none of the GPUs that the system has."""
    import torch

    if os.environ.get("CUDA_VISIBLE_DEVICES", " ").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides it"
    if not torch.backends.cuda.is_built():
        return "this torch is built without CUDA; install a build with it"
    try:
        torch.cuda.init()
    except Exception as error:
        return f"{one_line(error)}; look at nvidia-smi and at the driver"
    return "torch counts none; look at nvidia-smi and at the driver"


def examine_devices(machine: Machine, gpus: int = 0, remedy: str = NO_GPU) -> Iterator[Finding]:
    """Yield what is found of torch and of what computes; gpus: how many are asked for, and what to do without."""
    if machine.torch is None:
        yield Finding("torch", False, f"{machine.problem}; install it: {INSTALL}")
        return
    yield Finding("torch", True, machine.torch)
    for i, gpu in enumerate(machine.gpus):
        yield Finding(f"GPU {i}", True, f"{gpu.name}, {gibibytes(gpu.free)} of {gibibytes(gpu.total)} GiB free")
    if len(machine.gpus) < gpus:
        seen = f"{len(machine.gpus)} seen" if machine.gpus else "none"
        yield Finding("GPUs", False, f"{seen}, {gpus} asked for: {machine.problem or remedy}")
    elif not machine.gpus:
        none = "none; scales with resources.gpus: 0 compute on the CPU"
        yield Finding("GPUs", False, machine.problem or none, optional=not machine.problem)
    if machine.gpus:
        yield _examine_bf16(machine.gpus)
        yield examine("compiler, for resources.compile", partial(compile_header, machine.compiler, machine.headers))
        yield examine("bf16 product, and NCCL with one process", machine.trial)


def _examine_bf16(gpus: Sequence[Gpu]) -> Finding:
    without = sorted({gpu.name for gpu in gpus if not gpu.bf16})
    remedy = f"{', '.join(without)} computes none; say --set precision=fp32"
    return Finding("bf16", not without, remedy if without else "the GPUs compute it")


def compile_header(compiler: str | None, headers: Path) -> str:
    """Let a compiler read Python.h, as Triton does before the first compiled step; return what was read.

    Raises:
        UserError: it cannot.
    """
    remedy = "install a C compiler and Python's headers (Debian: gcc, python3-dev), or leave resources.compile out"
    if compiler is None:
        raise UserError(f"no C compiler; {remedy}")
    command = [compiler, "-fsyntax-only", "-xc", "-I", str(headers), "-"]
    include = "#include <Python.h>\n"
    with user_error(compiler, remedy, OSError):
        answer = subprocess.run(command, input=include, capture_output=True, text=True, timeout=PATIENCE)
    if answer.returncode != 0:
        raise UserError(f"{compiler} finds no sound {headers / 'Python.h'}; {remedy}")
    return f"{compiler} reads {headers / 'Python.h'}"


def in_a_process() -> str:
    """Compute on the GPU in a process of its own: a driver that crashes or hangs does so there."""
    here = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-c", f"from {__name__} import compute; print(compute('nccl', 'cuda'))"]
    environment = os.environ | {"PYTHONPATH": path}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    if answer.returncode != 0:
        words = [line for line in answer.stderr.splitlines() if line.strip()] or [f"exit code {answer.returncode}"]
        raise UserError(f"{words[-1]}; look at the driver, and set NCCL_DEBUG=INFO")
    return answer.stdout.strip()


def compute(backend: str, kind: str) -> str:
    """Multiply in bf16 on a device, and add up over a group of this process alone, as gradients are; say how long."""
    import torch
    import torch.distributed as dist

    begun = time.perf_counter()
    device = torch.device(kind)
    ones = torch.ones(64, 64, dtype=torch.bfloat16, device=device)
    assert float((ones @ ones).sum()) == 64**3, "a bf16 product came out wrong"
    with tempfile.TemporaryDirectory() as folder:
        patience = datetime.timedelta(seconds=PATIENCE)
        dist.init_process_group(backend, f"file://{folder}/meeting", patience, rank=0, world_size=1)
        one = torch.ones((), device=device)
        dist.all_reduce(one)
        assert float(one) == 1, "a sum over one process came out wrong"
        dist.destroy_process_group()
    return f"right, in {time.perf_counter() - begun:.1f} s"


def examine_jobs(jobs: Sequence[Job]) -> Iterator[Finding]:
    """Yield what is found of what jobs need, and each fault once: data sets, autoencoders, networks that features are
    of."""
    from harness.measure.extractors.inception import INCEPTION, inception_weights

    inception = {job.data for job in jobs for e in job.evaluations if e.evaluation.features == INCEPTION}
    named: list[tuple[str, Callable[[], object]]] = [*preflight.checks(jobs)]
    named += [(f"weights in {data}", partial(inception_weights, data)) for data in sorted(inception)]
    faults: list[str] = []
    for subject, check in named:
        finding = examine(subject, check, "here")
        if finding.well or not any(fault.endswith(finding.message) for fault in faults):
            yield finding
        faults += [] if finding.well else [finding.message]


def examine_data(data: Path) -> Iterator[Finding]:
    """Yield which data sets, autoencoders and weights are in a data folder, where nobody said what is needed."""
    from harness.data.datasets import check_source
    from harness.data.raw_files import READERS
    from harness.data.to_bytes import check_decoder
    from harness.measure.extractors.inception import inception_weights

    packed = sorted(path.parent.name for path in data.glob("*/meta.json") if path.parent.name not in READERS)
    for name in (*READERS, *packed):
        yield examine(f"data set {name}", partial(check_source, name, data), "here", optional=True)
    for name in packed:
        yield examine(f"autoencoder of {name}", partial(check_decoder, name, data), "here", optional=True)
    yield examine("Inception's weights", partial(inception_weights, data), optional=True)


def examine_disk(flag: str, folder: Path, needed: float = 0.0) -> Finding:
    """Look whether a folder can be written and has room; needed: bytes that will be written, by estimate."""

    def look() -> str:
        check_writable(flag, folder)
        free = shutil.disk_usage(nearest_existing(folder)).free
        room = f"{folder}: {free / 1e9:,.0f} GB free"
        if free < max(needed, LITTLE):
            raise UserError(f"{room}, about {max(needed, LITTLE) / 1e9:,.0f} GB needed; make room, or name another")
        return f"{room}, about {needed / 1e9:,.0f} GB needed" if needed else room

    return examine(flag, look)


def gibibytes(count: float) -> str:
    """Return a number of bytes in GiB, as people read it."""
    return f"{count / 2**30:.1f}"
