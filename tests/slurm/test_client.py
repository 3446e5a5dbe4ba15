"""What SLURM is asked, who waits for its controller, and what it is not told of the calling shell."""

import os
from pathlib import Path

import pytest
from support.jobs import jobs_of
from support.programs import answer, write_program

from harness.errors import UserError
from harness.slurm.client import QueuedJob, failed_nodes, own_environment, own_jobs, squeue, submit_limits
from harness.slurm.task import SlurmTask

AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
LATE = "slurm_load_jobs error: Socket timed out on send/recv operation"
NO_ACCOUNTING = "sacct: error: Problem talking to the database: Connection refused"


@pytest.mark.parametrize("words", [AWAY, LATE, NO_ACCOUNTING])
def test_who_acts_waits_for_a_controller_that_is_restarted_and_who_looks_does_not(tmp_path, monkeypatch, words):
    back = "if [ -e back ]; then echo '7_3|RUNNING|None|0|study-0'; exit; fi"
    write_program(tmp_path, "squeue", back, f"touch back; echo '{words}' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    assert own_jobs() == [QueuedJob("7_3", "study-0", "RUNNING", "None", uid=0)]
    Path("back").unlink()
    with pytest.raises(UserError, match="SLURM does not answer"):
        squeue("--me")
    Path("back").unlink()
    task = SlurmTask((jobs_of(tmp_path, "table2")[0],))
    assert task.checkpoint().function == SlurmTask(task.jobs, frozenset())  # before submitit asks SLURM to queue it
    assert Path("back").exists()
    write_program(tmp_path, "squeue", "echo 'something else' >&2; exit 1")
    task.checkpoint()  # what cannot be waited for does not stop it


@pytest.mark.parametrize(
    ("accounts", "states", "out"),
    [
        (["7|NODE_FAIL|n1"], {"n1": "down*"}, ["n1"]),
        (["7|NODE_FAIL|n1"], {"n1": "idle"}, ["n1"]),  # it works again, and may fail again
        (["7|NODE_FAIL|n1,n2"], {"n1": "drng"}, ["n1"]),
        (["7|NODE_FAIL|n1,n2"], {"n1": "mix-"}, ["n1", "n2"]),
        (["7|NODE_FAIL|n1", "8|NODE_FAIL|n2", "7|RUNNING|n3"], {}, ["n1", "n2"]),
        (["7|NODE_FAIL|n1", "8|NODE_FAIL|n2", "8|NODE_FAIL|n3"], {"n3": "down"}, ["n3"]),  # after a power cut
        (["7|NODE_FAIL|n1", "7|NODE_FAIL|n1"], {"n2": "down", "n3": "drain"}, []),  # no other works
        (["7|NODE_FAIL|n1,n2,n3"], {"n1": "down", "n2": "down", "n3": "down"}, []),
        (["9|NODE_FAIL|n1"], {"n1": "down"}, []),  # another's
    ],
)
def test_nodes_that_failed_are_left_out_while_others_work(tmp_path, monkeypatch, accounts, states, out):
    nodes = [f"{name} {states.get(name, 'alloc')}" for name in ("n1", "n2", "n3")]
    answer(tmp_path, monkeypatch, sacct="\n".join(accounts), sinfo="\n".join(nodes))
    write_program(tmp_path, "scontrol", "echo $3 | tr , '\\n'")
    assert failed_nodes(["7", "8"]) == out


def test_the_calling_shells_own_job_is_hidden_from_sbatch(monkeypatch):
    for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "RANK", "SLURM_CONF"):
        monkeypatch.setenv(name, "x")
    with own_environment():
        assert {"SLURM_JOB_ID", "SBATCH_PARTITION", "RANK"}.isdisjoint(os.environ)
        assert os.environ["SLURM_CONF"] == "x"
    assert os.environ["SLURM_JOB_ID"] == "x"


@pytest.mark.parametrize("enforced", ["associations,limits", "associations", "none"])
def test_the_queue_holds_as_many_jobs_as_accounting_allows_where_it_is_heeded(tmp_path, monkeypatch, enforced):
    """Of the account and the QoS that jobs are sent with, and not the least of all that somebody has."""
    answer(tmp_path, monkeypatch, scontrol=f"AccountingStorageEnforce = {enforced}")
    mine = "printf 'lab|lab||20\\nlab|few|long|3\\nlab|free||\\n'"
    qos = "case $4 in long) echo 7;; normal) echo;; esac"
    write_program(tmp_path, "sacctmgr", f'case "$*" in *withassoc*) {mine};; *) {qos};; esac')
    expected = {
        (None, None): [(20, "--account=lab")],
        ("few", None): [(3, "--account=few"), (7, "--qos=long")],
        ("few", "normal"): [(3, "--account=few")],
        ("free", None): [],
    }
    heeded = enforced.endswith("limits")
    assert {words: submit_limits(*words) for words in expected} == {w: expected[w] if heeded else [] for w in expected}
