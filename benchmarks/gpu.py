"""The acceptance on a card: does everything run there, is it right, and how fast is it? One command, nine minutes.

    python benchmarks/gpu.py --out OUT            # gpu.json and gpu.md in OUT, written anew after each row
    python benchmarks/gpu.py --tiny --out OUT     # the rehearsal: every part on a CPU, no figure means anything
    python benchmarks/gpu.py --tiny --fault ddp   # with a fault put into a part, which must be seen

It asks for a machine with one GPU and a CUDA build of torch (2.11 and 2.15 were tried on CPUs), and for no network and
no installation of this package: it finds `harness` beside itself. Where such a machine has torch, torchvision,
safetensors, huggingface_hub, numpy, Pillow and PyYAML, these wheels are all that it needs besides (12 MiB): pydantic,
pydantic_core, annotated-types, typing_extensions, typing-inspection, timm, filelock, torch_fidelity, diffusers,
importlib_metadata. constraints.txt is for installations, and pins another torch. Inception's weights do not travel:
random ones tell agreement and speed. Needs a C compiler and Python.h for compiled steps (`harness doctor` says).

The limits are in card/limits.toml. Parts run in the order of their worth; one that fails, or takes too long, does not
stop the others. Exit code: 0 where every limit is kept, 1 where one is not, or a part did not come to its end.
"""

import argparse
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch
from card import agreement_parts, speed_parts
from card.record import Record, Row, problem, read_limits
from card.workloads import Card, commit

Part = Callable[[Card], Iterator[tuple[str, Row]]]
PARTS: tuple[tuple[Part, float], ...] = (  # in the order of their worth, with the seconds that each is given
    (speed_parts.env, 15),
    (agreement_parts.correct, 60),
    (agreement_parts.syncs, 10),
    (speed_parts.speed, 230),
    (agreement_parts.compiled, 60),
    (agreement_parts.ddp, 45),
    (agreement_parts.resume, 10),
    (speed_parts.sampling, 45),
    (speed_parts.measure, 35),
    (speed_parts.loader, 30),
    (speed_parts.profile, 20),
)
SECONDS = 540.0
PATIENCE = 1.5  # times its seconds, after which a part is stopped


class TooLongError(BaseException):
    """A part has used up its time; no row of it is to go on."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Stop what takes longer, as soon as Python comes to it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(part: Part, seconds: float, card: Card, record: Record) -> bool:
    """Run one part within its seconds, and tell whether it passed."""
    begun, name = time.monotonic(), part.__name__
    made = record.new(name)
    try:
        if card.left < seconds / 3:
            raise TooLongError("no time was left")
        card.forget()
        with at_most(min(PATIENCE * seconds, card.left)):
            for row, values in part(card):
                made.rows[row] = values
                record.write()
    except (Exception, TooLongError) as error:
        traceback.print_exc(file=sys.stderr)
        made.problems.append(problem(error))
    passed = record.end(name, time.monotonic() - begun).passed
    wrong = [f"{v.row}: {v.value} {v.number}, {v.limit}" for v in made.verdicts if not v.kept]
    print(
        f"{'passed' if passed else 'FAILED'} {name}, {made.seconds:.1f} s",
        *wrong,
        *made.problems,
        sep="\n    ",
        flush=True,
    )
    return passed


def header(card: Card, chosen: argparse.Namespace) -> Row:
    """Return what the numbers were taken with."""
    return {
        "commit": chosen.commit or commit(),
        "command": " ".join(["python benchmarks/gpu.py", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name(card.device) if card.on_gpu else f"CPU, {os.cpu_count()} cores",
        "rehearsal": card.tiny,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "cudnn TF32 by default": torch.backends.cudnn.allow_tf32,
    }


def main() -> int:
    """Run the parts, and return the exit code."""
    names = [part.__name__ for part, _ in PARTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of what is written")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    parser.add_argument("--tiny", action="store_true", help="rehearse every part on a CPU")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--fault", nargs="+", choices=names, default=[], metavar="PART", help="put a fault into parts")
    parser.add_argument("--commit", help="what is measured, where there is no git to ask")
    chosen = parser.parse_args()
    if not chosen.tiny and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --tiny rehearses on a CPU")
    faulthandler.enable()
    if chosen.tiny:
        torch.set_num_threads(1)
    device = torch.device("cpu") if chosen.tiny else torch.device("cuda", 0)
    card = Card(device, chosen.tiny, chosen.out, time.monotonic() + chosen.seconds)
    record = Record(chosen.out, header(card, chosen), read_limits(chosen.tiny))
    passed = [
        run(part, seconds, replace(card, faulty=part.__name__ in chosen.fault), record)
        for part, seconds in PARTS
        if part.__name__ in chosen.only
    ]
    print(f"{sum(passed)} of {len(passed)} parts passed; {chosen.out / 'gpu.md'}")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
