"""Who is killed at any moment of submit, cancel or retry gives the same command again, and each run is sent once.

A SLURM of three programs keeps its queue in a file. A fuse burns down by one before and after each of them acts, and
after each file that the harness puts in its place; at its end the command is killed.
"""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.jobs import jobs_of, slurm
from support.places import GRIDS, ROOT
from support.programs import write_program

from harness.cli import cli
from harness.jobs.job import jobs_from_json
from harness.launchers.snapshot import Snapshot
from harness.launchers.submission import submit
from harness.store.records import Submission

pytestmark = [pytest.mark.slow, pytest.mark.long]
NEVER = 10_000
CODE = Snapshot({"harness/__init__.py": b""})
BURN = "burn() { n=$(($(cat $D/fuse) - 1)); echo $n > $D/fuse; if [ $n = 0 ]; then kill -9 $PPID; exit 1; fi; }"
PROGRAMS = {
    "sbatch": 'for last; do :; done; name=$(sed -n "s/^#SBATCH --job-name=//p" $last); echo >> $D/sent;'
    'id=$(wc -l < $D/sent); line="|PENDING|None|$(id -u)|$name"; answer="Submitted batch job $id"; '
    'if grep -q "^#SBATCH --array=0-1" $last; then echo "${id}_0$line"; echo "${id}_1$line"; '
    'else echo "$id$line"; fi >> $D/queue',
    "scancel": 'for id; do sed -i "/^$id[_|]/d" $D/queue; done; answer=',
    "squeue": "answer=$(cat $D/queue)",
    "scontrol": "answer=",
    "sacct": "answer=",
    "srun": "answer=",
}


class Bench:
    """The jobs of two trainings, and a SLURM; all that changes lies in `state`."""

    def __init__(self, folder: Path) -> None:
        self.state, self.kept = folder / "state", folder / "kept"
        self.fuse = self.state / "fuse"
        self.state.mkdir()
        (self.state / "queue").touch()
        for name, act in PROGRAMS.items():
            write_program(
                folder, name, f"D={self.state}", BURN, "burn", act, "burn", '[ -z "$answer" ] || echo "$answer"'
            )
        self.jobs = jobs_of(self.state, "convergence", "seeds=[0]")
        self.store = self.jobs[0].store
        self.store.record_grid("convergence", GRIDS / "convergence.yaml", "smoke", ["seeds=[0]"])

    def burn(self) -> None:
        left = int(self.fuse.read_text()) - 1
        self.fuse.write_text(f"{left}\n")
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def do(self, act: Callable[[], object], fuse: int) -> bool:
        """Do something in a process of its own; return whether it was killed."""
        self.fuse.write_text(f"{fuse}\n")
        if child := os.fork():
            status = os.waitpid(child, 0)[1]
            assert status == 0 or os.WIFSIGNALED(status), status
            return status != 0
        try:
            replace = Path.replace
            Path.replace = lambda path, target: (replace(path, target), self.burn())[0]  # type: ignore[method-assign]
            act()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)

    def submit(self) -> None:
        submit(self.jobs, slurm(array_limit=1), [])

    def command(self, *words: str) -> None:
        folders = ("--results", str(self.store.results), "--scratch", str(self.store.scratch))
        result = CliRunner().invoke(cli, [words[0], self.store.study, *folders, *words[1:]], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    def cancel(self) -> None:
        self.command("cancel", "--yes")

    def retry(self) -> None:
        self.command("retry", "--class", "cancelled")

    def queued(self) -> list[str]:
        """Return the trainings whose jobs wait, each as often as it does, by the tasks that they will find."""
        lines = (self.state / "queue").read_text().splitlines()
        tasks = [(self.store.slurm_folder / f"{line.split('|')[-1]}.json").read_bytes() for line in lines]
        elements = [int(line.partition("|")[0].partition("_")[2] or 0) for line in lines]
        return sorted(jobs_from_json(task)[n].train_id for task, n in zip(tasks, elements, strict=True))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("harness.launchers.submission.snapshot", lambda *_: CODE)
    monkeypatch.setattr("harness.slurm.slurm_launcher.SlurmLauncher.check_here", lambda *_: None)
    monkeypatch.setattr("harness.jobs.preflight.check", lambda *_: None)
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("command", "before"), [("submit", ()), ("cancel", ("submit",)), ("retry", ("submit", "cancel"))]
)
def test_whenever_a_command_is_killed_the_same_again_mends_it(bench, command, before):
    bench.jobs = bench.jobs if command == "submit" else bench.jobs[:1]  # two arrays, or fewer moments
    act = getattr(bench, command)
    for name in before:
        assert not bench.do(getattr(bench, name), NEVER)
    shutil.copytree(bench.state, bench.kept)
    moments = 0
    while True:
        shutil.rmtree(bench.state)
        shutil.copytree(bench.kept, bench.state)
        if not bench.do(act, moments + 1):
            break
        moments += 1
        assert not bench.do(act, NEVER)
        expected = [] if command == "cancel" else sorted(job.train_id for job in bench.jobs)
        assert bench.queued() == expected, f"killed at moment {moments}"
        records = [Submission.read(job.scratch) for job in bench.jobs]
        assert {record.cancelled for record in records} == {command == "cancel"}
        assert all(record.job for record in records)
    assert moments >= 5
