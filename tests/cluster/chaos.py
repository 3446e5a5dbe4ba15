#!/usr/bin/env python3
"""The grid of two people on the test cluster while all that can happen to it does; then its numbers are compared.

Usage: chaos.py FOLDER GRID… [--calm] [--longer 1] [--seed 0]       FOLDER is made, and must not exist
First the grids are run inline; --calm: then through the queue, undisturbed; then through the queue, disturbed, while
another account looks, submits, cancels and retries at random. A disturbance that hit nothing is tried again: SLURM's
accounting, or a run's own files, must tell what it did.
Needs tests/cluster/cluster.sh up, and root. Exits with 1 where anything was lost.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # as a script; pytest knows them
from cluster.colleague import Colleague, readable_python, share  # noqa: E402
from cluster.disturbances import PATIENCE, STUDY, Chaos, tend  # noqa: E402
from support.real_slurm import (  # noqa: E402
    copy_inputs,
    harness,
    metrics_of,
    queued_jobs,
    wait_for,
    write_profile,
    write_scale,
)

INLINE, CALM = "inline", "calm"


def run(folder: Path, grids: Sequence[str], scale: str, seed: int, calm: bool = False) -> tuple[Chaos, list[str]]:
    """Run the grids inline and in chaos; return what was done, and what was lost.

    calm: through the queue without disturbance as well, and compared too.
    """
    profile = write_profile(folder, "chaos", partitions={"low": {}}, resources={"partition": "low"})
    grid, lost = [*grids, "--scale", scale], []
    harness(folder, "run", *grid, "--study", INLINE, "--jobs", str(os.cpu_count()))
    if calm:
        _submit(folder, grid, CALM, profile)
        _finish(CALM)
        lost += _lost(folder, CALM)
        print(f"Undisturbed: {len(metrics_of(folder, CALM))} measurements, lost or other than inline: {len(lost)}")
    with readable_python(folder / "shown") as python:
        colleague = Colleague(folder, grid, STUDY, profile, python, random.Random(seed + 1))
        colleague.submit(grids[-1], "--scale", scale)
        _submit(folder, grid, STUDY, profile)
        chaos = Chaos(folder, random.Random(seed), colleague, lambda: _submit(folder, grid, STUDY, profile))
        acts: list[Callable[[], None]] = [
            *[chaos.requeue] * 3, *[chaos.kill] * 2, chaos.node_down, chaos.daemon_killed, chaos.controller_killed,
            chaos.preempt, chaos.fill, chaos.cancel,
        ]  # fmt: skip
        chaos.random.shuffle(acts)
        chaos.hold()
        with colleague.at_work():
            for act in acts:
                act()
        print(f"The colleague: {dict(colleague.done)}; jobs of their own that they ended: {colleague.ended}")
        _finish(STUDY)
        print(harness(folder, "status", STUDY), flush=True)
        if missing := len(metrics_of(folder, INLINE)) - len(metrics_of(folder, STUDY)):
            print(f"{missing} measurements are missing, or were cancelled: once more")
            _submit(folder, grid, STUDY, profile)
            _finish(STUDY)
    return chaos, lost + _lost(folder, STUDY)


def _submit(folder: Path, grid: Sequence[str], study: str, profile: Sequence[str]) -> None:
    start = time.monotonic()
    output = harness(folder, "submit", *grid, "--study", study, *profile)
    print(f"{output}The submitter ended after {time.monotonic() - start:.0f} s", flush=True)


def _finish(study: str) -> None:
    def over() -> bool:
        jobs = queued_jobs(study)
        tend(jobs, len(jobs))
        return not jobs

    wait_for(over, PATIENCE)


def _lost(folder: Path, study: str) -> list[str]:
    """Return what is missing or not as in the inline runs, to the last bit."""
    inline, ours = metrics_of(folder, INLINE), metrics_of(folder, study)
    lost = [f"{study} {name}: missing" for name in inline.keys() - ours.keys()]
    return lost + [
        f"{study} {name}: {inline[name]} became {ours[name]}"
        for name in inline.keys() & ours
        if inline[name] != ours[name]
    ]


@contextmanager
def project(folder: Path, longer: int) -> Iterator[None]:
    """Make a project folder whose results lie on a small filesystem of their own; take that away in the end.

    Its scale "chaos" is smoke with `longer` times as many steps.
    """
    (folder / "results").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder / "results"], check=True)
    try:
        share(folder / "results", folder / "scratch")
        copy_inputs(folder)
        write_scale(folder, "chaos", longer)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder / "results"], check=True)


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("grids", nargs="+")
    parser.add_argument("--calm", action="store_true")
    parser.add_argument("--longer", type=int, default=1, help="times as many steps as at smoke")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    with project(folder, arguments.longer):
        chaos, lost = run(folder, arguments.grids, "chaos", arguments.seed, arguments.calm)
        numbers = sum(len(metrics) for metrics in metrics_of(folder, INLINE).values())
    print(f"Done to it: {len(chaos.done)} things\n  " + "\n  ".join(chaos.done))
    print(f"Lost: {len(lost)} of {numbers} numbers\n  " + "\n  ".join(lost))
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
