"""Every class of failure, brought about on a real SLURM, named rightly, and mended by the command that is suggested."""

import shlex
import shutil
from pathlib import Path

import pytest
from support.real_slurm import (
    CLUSTER,
    PROFILE,
    ROOT,
    harness,
    metrics_of,
    queued_jobs,
    records,
    slurm,
    start,
    wait_for,
    write_grid,
    write_profile,
)  # fmt: skip

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long, pytest.mark.disturbs]
NODE, OTHER_NODE = "n2", "n1"
KINDS = ["preempted", "node", "time limit", "killed", "out of memory", "diverged", "bad data", "bug"]
EATS = """import sys
from pathlib import Path
if b"harness.slurm.task" in Path("/proc/self/cmdline").read_bytes():
    sys.eaten = b"x" * 2 * 10**9
"""
RATE = "optimizer.learning_rate"
WRONG = """

def append(log: Path, line: dict[str, float]) -> None:
    raise KeyError("nothing")
"""


def send(folder: Path, study: str, kind: str, *words: str, source: Path | None = None, **profile: object) -> str:
    """Send one training that will fail in a certain way, and return SLURM's id of its job."""
    name = kind.replace(" ", "-")
    grid = write_grid(folder, name, 0.1 + 0.01 * KINDS.index(kind))
    chosen, before = write_profile(folder, name, **profile), records(folder, study)
    code = {"PYTHONPATH": str(source)} if source else {}
    harness(folder, "submit", grid, "--scale", "smoke", "--study", study, *chosen, *words, **code)
    (record,) = [record for id, record in records(folder, study).items() if id not in before]
    return record["job"]


def running(job: str) -> bool:
    return slurm("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING"


def lose_two(folder: Path, study: str, **stays: object) -> None:
    """Have one job preempted that may not be queued again, and take another's node away."""
    free = {"partitions": {"scavenge": {}}, "resources": {"partition": "scavenge"}}
    taken = send(folder, study, "preempted", **stays, **free)
    wait_for(lambda: running(taken))
    higher = ("-p", "gpu", "-w", NODE, "--exclusive", "-o", "/dev/null", "--wrap", "true")
    other = slurm("sbatch", "--parsable", *higher)
    wait_for(lambda: not slurm("squeue", "-h", "-t", "PD,R,CG", "-j", f"{taken},{other}"))
    lost = send(folder, study, "node", **stays)
    wait_for(lambda: running(lost))
    slurm("scontrol", "update", f"JobId={lost}", "Requeue=0")
    slurm("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=test")
    slurm(str(CLUSTER), "node-on", NODE)
    wait_for(lambda: not slurm("squeue", "-h", "-t", "PD,R,CG", "-j", lost))


def fail_all(folder: Path, study: str) -> None:
    """Bring about all classes of failure in one study; what happens to a node happens beside what takes a minute."""
    stuck, eats, wrong = folder / "stuck", folder / "eats", folder / "wrong"
    stuck.touch()
    waits = [f"[ -e {stuck} ] && sleep 600"]
    late = send(folder, study, "time limit", setup=waits, signal_seconds=1, exclude=[NODE])
    wait_for(lambda: running(late))
    slurm("scontrol", "update", f"JobId={late}", "TimeLimit=1")
    lose_two(folder, study, setup=waits, exclude=[OTHER_NODE])
    ended = send(folder, study, "killed", setup=waits)
    wait_for(lambda: running(ended))
    slurm("scancel", "--signal=KILL", ended)
    eats.mkdir()
    (eats / "sitecustomize.py").write_text(EATS)
    send(folder, study, "out of memory", "--set", "resources.memory_gb=1", setup=[f"export PYTHONPATH={eats}"])
    send(folder, study, "diverged", "--set", f"{RATE}=1e30")
    send(folder, study, "bad data", "--data", "torn", setup=[f"rm -rf {folder}/torn; touch {folder}/torn"])
    shutil.copytree(ROOT / "harness", wrong / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    with (wrong / "harness" / "engine" / "metric_logger.py").open("a") as file:
        file.write(WRONG)
    send(folder, study, "bug", source=wrong)
    shutil.rmtree(wrong)  # the tree is mended at once, but what was sent stays as it was
    wait_for(lambda: not queued_jobs(study))
    stuck.unlink()


def test_every_failure_is_named_rightly_and_mended_by_the_suggested_command(study, tmp_path):
    fail_all(tmp_path, study)
    output = harness(tmp_path, "status", study)
    for kind in KINDS:
        assert f" failed: {kind}" in output, output
    assert "KeyError" in harness(tmp_path, "logs", "--failed", study)
    suggested = [line.removeprefix("# → ") for line in output.splitlines() if line.startswith("# → ")]
    assert len(suggested) == len(KINDS)
    retries = []
    for line in suggested:
        command = line[line.find(f"harness retry {study}") :].replace("resources.memory_gb=…", "resources.memory_gb=4")
        words = shlex.split(command.replace("resources.hours=…", "resources.hours=0.3").partition(" (or ")[0])
        if words[:2] == ["harness", "retry"]:
            retries.append((words, start(tmp_path, *words[1:], *PROFILE)))
    for words, retry in retries:
        told = retry.communicate()[0]
        assert "Submitted 1 trainings" in told, told
        assert (f"Left out, for they failed: {NODE}" in told) == ("node" in words)
    (slower,) = [line.partition("with less: harness ")[2] for line in suggested if "diverge" in line]
    assert f"--study {study}-2 " in slower
    assert "1e30" not in slower
    harness(tmp_path, *shlex.split(slower.replace(f"{RATE}=…", f"{RATE}=2e-3")), *PROFILE)
    wait_for(lambda: len(metrics_of(tmp_path, study)) == len(KINDS) - 1 and metrics_of(tmp_path, f"{study}-2"))
    assert len(metrics_of(tmp_path, study)) == len(KINDS) - 1  # what diverged would do so again
    assert len(metrics_of(tmp_path, f"{study}-2")) == 1
