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
    wait_for,
    write_grid,
    write_profile,
)  # fmt: skip

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
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


def send(folder: Path, study: str, kind: str, *words: str, source: Path = ROOT, **profile: object) -> str:
    """Send one training that will fail in a certain way, and return SLURM's id of its job."""
    name = kind.replace(" ", "-")
    grid = write_grid(folder, name, 0.1 + 0.01 * KINDS.index(kind))
    chosen, before = write_profile(folder, name, **profile), records(folder, study)
    harness(folder, "submit", grid, "--scale", "smoke", "--study", study, *chosen, *words, PYTHONPATH=str(source))
    (record,) = [record for id, record in records(folder, study).items() if id not in before]
    return record["job"]


def running(job: str) -> bool:
    return slurm("squeue", "-h", "-j", job, "-o", "%T") == "RUNNING"


def lose_two(folder: Path, study: str, waits: list[str]) -> str:
    """Have one job preempted that may not be queued again, and take another's node away; return the node's name."""
    free = {"partitions": {"scavenge": {}}, "resources": {"partition": "scavenge"}}
    taken = send(folder, study, "preempted", setup=waits, **free)
    wait_for(lambda: running(taken))
    other = slurm("sbatch", "--parsable", "-p", "gpu", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    wait_for(lambda: not queued_jobs(study) and not slurm("squeue", "-h", "-t", "PD,R,CG", "-j", other))
    lost = send(folder, study, "node", setup=waits)
    wait_for(lambda: running(lost))
    node = slurm("squeue", "-h", "-j", lost, "-o", "%N")
    slurm("scontrol", "update", f"JobId={lost}", "Requeue=0")
    slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    slurm(str(CLUSTER), "node-on", node)
    wait_for(lambda: not queued_jobs(study))
    return node


def fail_all(folder: Path, study: str) -> str:
    """Bring about all classes of failure in one study; return the name of the node that failed."""
    stuck, eats, wrong = folder / "stuck", folder / "eats", folder / "wrong"
    stuck.touch()
    waits = [f"[ -e {stuck} ] && sleep 600"]
    node = lose_two(folder, study, waits)
    late = send(folder, study, "time limit", setup=waits, signal_seconds=1)
    ended = send(folder, study, "killed", setup=waits)
    wait_for(lambda: running(late) and running(ended))
    slurm("scontrol", "update", f"JobId={late}", "TimeLimit=1")
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
    return node


def test_every_failure_is_named_rightly_and_mended_by_the_suggested_command(study, tmp_path):
    node = fail_all(tmp_path, study)
    output = harness(tmp_path, "status", study)
    for kind in KINDS:
        assert f" failed: {kind}" in output, output
    assert "KeyError" in harness(tmp_path, "logs", "--failed", study)
    suggested = [line.removeprefix("# → ") for line in output.splitlines() if line.startswith("# → ")]
    assert len(suggested) == len(KINDS)
    for line in suggested:
        command = line[line.find(f"harness retry {study}") :].replace("resources.memory_gb=…", "resources.memory_gb=4")
        words = shlex.split(command.replace("resources.hours=…", "resources.hours=0.3").partition(" (or ")[0])
        if words[:2] == ["harness", "retry"]:
            output_of_retry = harness(tmp_path, *words[1:], *PROFILE)
            assert "Submitted 1 trainings" in output_of_retry
            assert (f"Left out, for they failed: {node}" in output_of_retry) == ("node" in words)
    (slower,) = [line.partition("with less: harness ")[2] for line in suggested if "diverge" in line]
    assert f"--study {study}-2 " in slower
    assert "1e30" not in slower
    harness(tmp_path, *shlex.split(slower.replace(f"{RATE}=…", f"{RATE}=2e-3")), *PROFILE)
    wait_for(lambda: len(metrics_of(tmp_path, study)) == len(KINDS) - 1 and metrics_of(tmp_path, f"{study}-2"))
    assert len(metrics_of(tmp_path, study)) == len(KINDS) - 1  # what diverged would do so again
    assert len(metrics_of(tmp_path, f"{study}-2")) == 1
