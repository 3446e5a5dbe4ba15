#!/usr/bin/env python3
"""A grid runs on the test cluster while everything that can happen to it does; then its numbers are compared.

Usage: chaos.py FOLDER GRID… [--calm] [--longer 1] [--seed 0]       FOLDER is made, and must not exist
First the grids are run inline; --calm: then through the queue, undisturbed; then through the queue, disturbed. A
disturbance that hit nothing is tried again: SLURM's accounting, or a run's own files, must tell what it did.
Needs tests/slurm/cluster.sh up, and root. Exits with 1 where anything was lost.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from real_slurm import (  # noqa: E402
    CLUSTER,
    at_once,
    found,
    harness,
    held,
    records,
    slurm,
    wait_for,
    write_profile,
    write_scale,
)

from harness.files import read_json, read_jsonl  # noqa: E402
from harness.launch.queue import Queued  # noqa: E402
from harness.store import beating  # noqa: E402

INLINE, CALM, STUDY = "inline", "calm", "chaos"
PATIENCE = 1800
AT_ONCE = 3  # jobs that may run while the disturbances last
DAEMONS = Path("/run/slurm")
WELL = {"PENDING", "RUNNING", "COMPLETING", "COMPLETED"}
FULL = b"No space left on device"


@dataclass
class Chaos:
    """What is done to a grid, and where. kind: what SLURM calls a job's end, or the class of a failure."""

    folder: Path
    random: random.Random
    done: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def hold(self) -> None:
        """Let what is in the queue wait, so that the grid is not done before everything was done to it."""
        self.waiting = [job.id for job in held(STUDY) if job.state == "PENDING"]
        slurm("scontrol", "hold", ",".join(self.waiting))

    def let_go(self, count: int) -> None:
        """Take some jobs that wait into the queue again."""
        for _ in range(min(count, len(self.waiting))):
            slurm("scontrol", "release", self.waiting.pop(0))

    def jobs(self) -> list[Queued]:
        """Return what SLURM holds of the grid, some of it running or about to."""
        jobs = held(STUDY)
        self.let_go(AT_ONCE - len(jobs) + len(self.waiting))
        at_once([job.id for job in jobs if job.state == "PENDING"])
        return jobs

    def victim(self) -> Queued:
        """Return a job that is at work on its training, once there is one."""
        working: list[Queued] = []

        def look() -> bool:
            jobs = self.jobs()
            working[:] = [job for job in jobs if job.state == "RUNNING" and self.training(job)]
            return bool(working) or not jobs

        wait_for(look, PATIENCE, every=0.1)
        assert working, "the grid was done before everything was done to it; give it more to do"
        time.sleep(self.random.random())  # not always in the first moment of its work
        return self.random.choice(sorted(working, key=lambda job: job.id))

    def training(self, job: Queued) -> str | None:
        """Return the training that a job is at work on, with its step; None where it is not, or not yet."""
        for name, record in records(self.folder, STUDY).items():
            if (record["token"], record["index"]) == job.place:
                run = self.folder / "results" / STUDY / name
                beat = read_json(run / "heartbeat.json")
                lines = read_jsonl(run / "train.jsonl")
                return f"{name}, step {int(lines[-1]['step']) if lines else 0}" if beat and beating(beat) else None
        return None

    def until_hit(self, words: str, disturb: Callable[[Queued], None], kind: str) -> None:
        """Disturb a job at work, and others, until SLURM's accounting calls what became of one `kind`; say which."""
        for _ in range(20):
            job = self.victim()
            training, before = self.training(job), ended()
            disturb(job)
            hit: list[str] = []

            def look(before: Counter[tuple[str, str]] = before, hit: list[str] = hit) -> bool:
                hit[:] = [id for id, state in (ended() - before).elements() if state == kind]
                return bool(hit)

            wait_for(look, 20)
            if hit:
                self.tell(f"{words}; {kind}: {', '.join(sorted(hit))}", f"{job.id} was at {training}")
                return
            print(f"{words}: {job.id} had ended by itself; again", flush=True)
        raise AssertionError(f"{words}: hit nothing in twenty attempts")

    def tell(self, words: str, more: str = "") -> None:
        """Remember what was done, and print it."""
        self.done.append(words)
        print(f"{time.strftime('%H:%M:%S')} {words}{f' ({more})' if more else ''}", flush=True)

    def requeue(self) -> None:
        """As an operator does."""
        self.until_hit("scontrol requeue", lambda job: quietly("scontrol", "requeue", job.id), "REQUEUED")

    def kill(self) -> None:
        """SIGKILL to all of a job."""
        self.until_hit("SIGKILL", lambda job: quietly("scancel", "--signal=KILL", job.id), "CANCELLED")

    def node_down(self) -> None:
        """Drain a node on which something runs, and take it down."""

        def down(job: Queued) -> None:
            node = node_of(job)
            steps = steps_on(node)
            for state in ("DRAIN", "DOWN"):
                slurm("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=chaos")
            wait_for(lambda: not alive(steps), 60)
            slurm(str(CLUSTER), "node-on", node)

        self.until_hit("node drained and down", down, "NODE_FAIL")

    def daemon_killed(self) -> None:
        """SIGKILL to a node's slurmd; its jobs run on unseen until SLURM gives the node up."""

        def kill(job: Queued) -> None:
            node = node_of(job)
            steps = steps_on(node)
            slurm("kill", "-9", (DAEMONS / f"slurmd-{node}.pid").read_text().strip())
            wait_for(lambda: "down" in slurm("sinfo", "-h", "-n", node, "-o", "%t"), 120)
            wait_for(lambda: not alive(steps), 60)
            slurm(str(CLUSTER), "node-on", node)

        self.until_hit("slurmd killed", kill, "NODE_FAIL")

    def preempt(self) -> None:
        """A job in the higher partition wants both nodes."""
        words = ("sbatch", "--parsable", "-p", "gpu", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")

        def send(_: Queued) -> None:
            other = slurm(*words)
            wait_for(lambda: not slurm("squeue", "-h", "-t", "PD,R,CG", "-j", other), 300)

        self.until_hit("both nodes taken by a higher partition", send, "PREEMPTED")

    def fill(self) -> None:
        """Not a byte is left where the results go, until a run has failed of it."""
        self.victim()
        filler, before, hit = self.folder / "results" / "filler", set(self.without_room()), set()

        def look() -> bool:
            write_all(filler)
            hit.update(set(self.without_room()) - before)
            return bool(hit) or not self.jobs()

        wait_for(look, 300)
        filler.unlink()
        assert hit, "nothing failed on the full disk"
        self.tell(f"results' filesystem full; disk full: {', '.join(sorted(hit))}")

    def without_room(self) -> Iterator[str]:
        """Yield the trainings that failed on a full disk, as their files or their jobs' output tell."""
        for path in (self.folder / "results" / STUDY).glob("*/error.json"):
            if (read_json(path) or {}).get("class") == "disk full":
                yield path.parent.name
        for name, record in records(self.folder, STUDY).items():
            output = self.folder / "scratch" / STUDY / "slurm" / str(record["job"]) / f"{record['job']}_0_log.out"
            if output.is_file() and FULL in output.read_bytes():
                yield name


def ended() -> Counter[tuple[str, str]]:
    """Count how the study's jobs ended by SLURM's accounting, other than well: (id, state), each attempt by itself."""
    columns = "--format=JobID,State,JobName"
    said = slurm("sacct", "-S", "now-6hours", "-X", "-D", "-n", "-P", columns)
    rows = [line.split("|") for line in said.splitlines()]
    states = [(id, state.partition(" ")[0]) for id, state, name in rows if name.startswith(f"{STUDY}-")]
    return Counter(row for row in states if row[1] not in WELL)


def node_of(job: Queued) -> str:
    return slurm("squeue", "-h", "-j", job.id, "-o", "%N") or "n1"


def steps_on(node: str) -> str:
    """Return a pattern of the processes that SLURM has on a node.

    A node that comes back before they have ended would be given the same jobs, and refuse to run them twice.
    """
    return rf"^slurmstepd: \[({'|'.join(slurm('squeue', '-h', '-w', node, '-o', '%A').split()) or '-'})\."


def alive(steps: str) -> bool:
    return subprocess.run(["pgrep", "-f", steps], capture_output=True).returncode == 0


def quietly(*words: str) -> None:
    """Tell SLURM what it may refuse, for the job may have ended."""
    subprocess.run(words, capture_output=True)


def write_all(filler: Path) -> None:
    """Write a file until its disk is full."""
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def run(folder: Path, grids: Sequence[str], scale: str, seed: int, calm: bool = False) -> tuple[Chaos, str, list[str]]:
    """Run the grids inline and in chaos; return what was done, the status after it, and what was lost.

    calm: through the queue without disturbance as well, and compared too.
    """
    profile = write_profile(folder, "chaos", partitions={"low": {}}, resources={"partition": "low"})
    grid, lost = [*grids, "--scale", scale], []
    harness(folder, "run", *grid, "--study", INLINE, "--jobs", str(os.cpu_count()))
    if calm:
        _submit(folder, grid, CALM, profile)
        _finish(CALM)
        lost += _lost(folder, CALM)
        print(f"Undisturbed: {len(found(folder, CALM))} measurements, lost or other than inline: {len(lost)}")
    _submit(folder, grid, STUDY, profile)
    chaos = Chaos(folder, random.Random(seed))
    acts: list[Callable[[], None]] = [
        *[chaos.requeue] * 3, *[chaos.kill] * 2, chaos.node_down, chaos.daemon_killed, chaos.preempt, chaos.fill,
    ]  # fmt: skip
    chaos.random.shuffle(acts)
    chaos.hold()
    for act in acts:
        act()
    chaos.let_go(len(chaos.waiting))
    _finish(STUDY)
    status = harness(folder, "status", STUDY)
    print(status, flush=True)
    if missing := len(found(folder, INLINE)) - len(found(folder, STUDY)):
        print(f"{missing} measurements are missing: one retry\n{harness(folder, 'retry', STUDY, '--failed', *profile)}")
        _finish(STUDY)
    return chaos, status, lost + _lost(folder, STUDY)


def _submit(folder: Path, grid: Sequence[str], study: str, profile: Sequence[str]) -> None:
    start = time.monotonic()
    said = harness(folder, "submit", *grid, "--study", study, *profile)
    print(f"{said}The submitter ended after {time.monotonic() - start:.0f} s", flush=True)


def _finish(study: str) -> None:
    def over() -> bool:
        at_once([job.id for job in held(study) if job.state == "PENDING"])
        return not held(study)

    wait_for(over, PATIENCE)


def _lost(folder: Path, study: str) -> list[str]:
    """Return what is missing or not as in the inline runs, to the last bit."""
    inline, ours = found(folder, INLINE), found(folder, study)
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
        for name in ("grids", "clusters"):
            shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
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
    said = parser.parse_args()
    folder = said.folder.absolute()
    with project(folder, said.longer):
        chaos, _, lost = run(folder, said.grids, "chaos", said.seed, said.calm)
        numbers = sum(len(metrics) for metrics in found(folder, INLINE).values())
    print(f"Done to it: {len(chaos.done)} things\n  " + "\n  ".join(chaos.done))
    print(f"Lost: {len(lost)} of {numbers} numbers\n  " + "\n  ".join(lost))
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
