#!/usr/bin/env python3
"""A grid runs on the test cluster while everything that can happen to it does; then its numbers are compared.

Usage: chaos.py FOLDER GRID… [--longer 1] [--seed 0]       FOLDER is made, and must not exist
Needs tests/slurm/cluster.sh up, and root. Exits with 1 where anything was lost.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from real_slurm import CLUSTER, at_once, found, harness, held, slurm, wait_for, write_profile, write_scale  # noqa: E402

STUDY, CALM = "chaos", "calm"
PATIENCE = 1800
DAEMONS = Path("/run/slurm")


@dataclass
class Chaos:
    """What is done to a grid, and where."""

    folder: Path
    random: random.Random
    done: list[str] = field(default_factory=list)

    def tell(self, words: str) -> None:
        """Remember what was done, and print it."""
        self.done.append(words)
        print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)

    def victim(self) -> str:
        """Return a running job, once there is one."""
        running: list[str] = []

        def look() -> bool:
            jobs = held(STUDY)
            at_once([job.id for job in jobs if job.state == "PENDING"])
            running[:] = sorted(job.id for job in jobs if job.state == "RUNNING")
            return bool(running) or not jobs

        wait_for(look, PATIENCE)
        assert running, "the grid was done before everything was done to it; give it more to do"
        return self.random.choice(running)

    def requeue(self) -> None:
        """As an operator does."""
        job = self.victim()
        slurm("scontrol", "requeue", job)
        self.tell(f"queued again: {job}")

    def kill(self) -> None:
        """SIGKILL to all of a job."""
        job = self.victim()
        slurm("scancel", "--signal=KILL", job)
        self.tell(f"killed: {job}")

    def node_down(self) -> None:
        """Drain a node on which something runs, and take it down."""
        node = slurm("squeue", "-h", "-j", self.victim(), "-o", "%N")
        slurm("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=chaos")
        slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=chaos")
        self.tell(f"drained and taken down: {node}")
        time.sleep(2)
        slurm(str(CLUSTER), "node-on", node)

    def daemon_killed(self) -> None:
        """SIGKILL to a node's slurmd; its jobs run on unseen until SLURM gives the node up."""
        node = slurm("squeue", "-h", "-j", self.victim(), "-o", "%N")
        slurm("kill", "-9", (DAEMONS / f"slurmd-{node}.pid").read_text().strip())
        wait_for(lambda: "down" in slurm("sinfo", "-h", "-n", node, "-o", "%t"), 120)
        self.tell(f"slurmd killed on {node}, which SLURM now calls {slurm('sinfo', '-h', '-n', node, '-o', '%t,')[:5]}")
        slurm(str(CLUSTER), "node-on", node)

    def preempt(self) -> None:
        """A job in the higher partition wants both nodes."""
        self.victim()
        job = slurm("sbatch", "--parsable", "-p", "gpu", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
        wait_for(lambda: not slurm("squeue", "-h", "-t", "PD,R,CG", "-j", job), 300)
        self.tell(f"preempted by job {job}, which took both nodes")

    def fill(self) -> None:
        """Not a byte is left where the results go, for some seconds."""
        self.victim()
        filler = self.folder / "results" / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        time.sleep(8)
        filler.unlink()
        self.tell("filled the results' filesystem for 8 s")


def run(folder: Path, grids: Sequence[str], scale: str, seed: int) -> tuple[list[str], list[str]]:
    """Run the grids calmly and in chaos; return what was done, and what was lost."""
    profile = write_profile(folder, "chaos", partitions={"low": {}}, resources={"partition": "low"})
    grid = [*grids, "--scale", scale]
    harness(folder, "run", *grid, "--study", CALM, "--jobs", str(os.cpu_count()))
    print(harness(folder, "submit", *grid, "--study", STUDY, *profile), flush=True)
    chaos = Chaos(folder, random.Random(seed))
    acts: list[Callable[[], None]] = [
        *[chaos.requeue] * 3, *[chaos.kill] * 2, chaos.node_down, chaos.daemon_killed, chaos.preempt, chaos.fill,
    ]  # fmt: skip
    chaos.random.shuffle(acts)
    for act in acts:
        act()
    _finish()
    missing = len(found(folder, CALM)) - len(found(folder, STUDY))
    print(harness(folder, "status", STUDY), flush=True)
    if missing:
        print(f"{missing} measurements are missing: one retry\n{harness(folder, 'retry', STUDY, '--failed', *profile)}")
        _finish()
    return chaos.done, _lost(folder)


def _finish() -> None:
    def over() -> bool:
        at_once([job.id for job in held(STUDY) if job.state == "PENDING"])
        return not held(STUDY)

    wait_for(over, PATIENCE)


def _lost(folder: Path) -> list[str]:
    """Return what is missing or not as in the undisturbed grid, to the last bit."""
    calm, ours = found(folder, CALM), found(folder, STUDY)
    lost = [f"{name}: missing" for name in calm.keys() - ours.keys()]
    return lost + [
        f"{name}: {calm[name]} became {ours[name]}" for name in calm.keys() & ours if calm[name] != ours[name]
    ]


def prepare(folder: Path) -> None:
    """Make a project folder whose results lie on a small filesystem of their own."""
    (folder / "results").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder / "results"], check=True)
    for name in ("grids", "clusters"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)


def release(folder: Path) -> None:
    """Take the small filesystem away, with what it holds."""
    subprocess.run(["umount", "--lazy", folder / "results"], check=True)


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("grids", nargs="+")
    parser.add_argument("--longer", type=int, default=1, help="times as many steps as at smoke")
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    folder = said.folder.absolute()
    prepare(folder)
    try:
        write_scale(folder, "chaos", said.longer)
        done, lost = run(folder, said.grids, "chaos", said.seed)
        numbers = sum(len(metrics) for metrics in found(folder, CALM).values())
    finally:
        release(folder)
    print(f"Done to it: {len(done)} things\n  " + "\n  ".join(done))
    print(f"Lost: {len(lost)} of {numbers} numbers\n  " + "\n  ".join(lost))
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
