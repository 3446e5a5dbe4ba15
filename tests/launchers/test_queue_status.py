"""How a training stands follows from its files and from what SLURM says of its job; each failure has a class."""

import errno
import re
import time
from subprocess import CalledProcessError

import pytest
import torch
from safetensors import SafetensorError
from support.jobs import store_in, submission
from support.places import GRIDS
from support.programs import answer

from harness.config.grid import load_table
from harness.config.spec import eval_id
from harness.errors import Diverged, UserError
from harness.files import read_json, write_json
from harness.jobs.failures import CAUSES, ENDS, class_of, remedy
from harness.jobs.job import jobs_for
from harness.jobs.local_pool import WorkerError
from harness.jobs.recording import heartbeats
from harness.launchers.launcher import QueuedJob
from harness.launchers.queue_status import Answer, SlurmStatus, output_path, slurm_status, status_of, training_status
from harness.store.records import Attempt, Environment, Submission
from harness.store.status import training_statuses

TABLE = load_table(GRIDS / "table2.yaml", "smoke")
SENT = submission(3, "7_3")


def in_queue(*words: str) -> Answer:
    job = QueuedJob(*words)
    return Answer({job.place: job})


@pytest.fixture
def job(tmp_path):
    return jobs_for(TABLE.runs, store_in(tmp_path), tmp_path / "data")[0]


def status(job, record: Submission | None, answer: Answer | None = None) -> SlurmStatus:
    (training,) = [t for t in training_statuses([TABLE], job.store) if t.train_id == job.train_id]
    return status_of(training, job, record, answer or Answer())


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Diverged("loss not finite"), "diverged"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (MemoryError(), "out of memory"),
        (UserError("data set digits: its files are torn"), "bad data"),
        (WorkerError("a process was killed"), "killed"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk full"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk full"),
        (CalledProcessError(1, ["scontrol", "requeue", "7_3"]), "time limit"),
        (CalledProcessError(1, ["git", "log"]), "bug"),
        (ZeroDivisionError("division by zero"), "bug"),
    ],
)
def test_what_a_run_raised_has_its_class(job, error, failure):
    assert class_of(error) == failure
    job.fail(error)
    failed = status(job, None)
    assert (failed.state, failed.failure) == ("diverged" if failure == "diverged" else "failed", failure)
    assert failed.output.endswith(f"{error}\n")
    assert failure == "diverged" or failure in CAUSES


def test_the_cpus_allocator_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert class_of(caught.value) == "out of memory"


@pytest.mark.parametrize(("end", "failure"), [*ENDS.items(), ("COMPLETED", None)])
def test_what_left_no_word_has_the_class_that_slurm_tells(job, end, failure):
    Environment(attempts=[Attempt(slurm_job_id="7_3")]).write(job.folder)
    assert status(job, SENT, Answer(ends={"7_3": end})).failure == failure
    assert failure is None or remedy(failure, "study").startswith(("harness retry study --class", "the same seed"))


def test_a_job_in_the_queue_is_no_failure_whatever_came_before(job):
    job.fail(ZeroDivisionError())
    record = submission(3)
    assert status(job, record, in_queue("7_3", "study-0", "PENDING")).state == "waiting"
    assert status(job, record, in_queue("7_3", "study-0", "RUNNING")).state == "starting"
    stuck = status(job, record, in_queue("7_3", "study-0", "PENDING", "launch failed requeued held"))
    assert (stuck.state, stuck.mend) == ("held", "scontrol release {jobs}")
    assert stuck.message.endswith("(launch failed requeued held)")
    assert status(job, record, in_queue("7_3", "study-0", "PENDING", "Resources")).state == "waiting"
    assert status(job, record, in_queue("7_4", "study-0", "PENDING")).failure == "bug"
    assert status(job, record, in_queue("7_3", "study-1", "PENDING")).failure == "bug"


def test_a_failure_of_before_the_last_submission_is_not_the_reason(job):
    job.fail(ZeroDivisionError())
    record = submission(3, "7_3", time=time.time() + 1)
    assert status(job, record, Answer(ends={"7_3": "TIMEOUT"})).failure == "time limit"


def test_a_job_that_slurm_forgot_or_that_ended_with_nothing_is_told_so(job):
    sent = submission(3, "7_3", evaluations=tuple(eval_id(job.train_id, e) for e in job.evaluations))
    assert status(job, sent).message == "nothing tells of its end"
    assert status(job, sent, Answer(ends={"7_3": "COMPLETED"})).message.startswith("it ended without its results")
    assert status(job, sent, Answer(silent=frozenset(["slurm"]))).state == "unknown"
    assert status(job, None, Answer(silent=frozenset(["slurm"]))).state == "not run"


def test_a_beat_is_believed_unless_slurm_has_queued_the_job_again(job):
    with heartbeats(job.folder, 5):
        assert status(job, SENT, Answer(silent=frozenset(["slurm"]))).state == "running"
        assert status(job, SENT, in_queue("7_3", "study-0", "RUNNING")).state == "running"
        assert status(job, SENT, in_queue("7_3", "study-0", "PENDING")).state == "waiting"


PARTS = ("train", "sample-1-of-2", "sample-2-of-2", "measure-of-2")
IN_QUEUE, HELD = QueuedJob("1", "study-1", "RUNNING"), QueuedJob("2", "study-2", "PENDING", "requeued held")
HELD_WORDS = "shard 2 of 2: SLURM queued it again and holds it (requeued held)"
ENDED = {"0": "COMPLETED", "1": "COMPLETED", "2": "FAILED", "3": "CANCELLED"}


@pytest.mark.parametrize(
    ("queue", "ends", "expected"),
    [
        ([IN_QUEUE], ENDED, ("failed", "2", "shard 2 of 2: SLURM: FAILED")),
        ([], ENDED, ("failed", "1", "shard 1 of 2: it ended without its results")),
        ([IN_QUEUE, HELD], ENDED, ("held", "2", HELD_WORDS)),  # measuring waits for it
        (
            [IN_QUEUE, HELD],
            {"0": "COMPLETED", "3": "PENDING"},
            ("held", "2", HELD_WORDS),
        ),
    ],
)
def test_of_a_training_in_parts_what_needs_somebody_is_told_the_earliest_of_it(tmp_path, queue, ends, expected):
    table = load_table(GRIDS / "table2.yaml", "smoke", ["resources.sample_shards=2", "evaluation.samples=200"])
    job, training = (
        jobs_for(table.runs, store_in(tmp_path), tmp_path / "data")[0],
        training_statuses([table], store_in(tmp_path))[0],
    )
    assert training.train_id == job.train_id
    job.scratch.mkdir(parents=True)
    for spec in job.evaluations:
        (job.scratch / f"weights-{spec.step:08d}.safetensors").touch()
    evaluations = tuple(eval_id(job.train_id, e) for e in job.evaluations)
    older = submission(None, "9", token="study-9", part="sample-1-of-3", time=0.0)  # of another division
    records = [older] + [
        submission(None, f"{n}", token=f"study-{n}", part=part, evaluations=evaluations, time=1.0)
        for n, part in enumerate(PARTS)
    ]
    status = training_status(training, job, records, Answer({held.place: held for held in queue}, ends))
    assert (status.state, status.slurm_job, re.split("; |: harness logs", status.message)[0]) == expected


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_a_failure_takes_the_room_of_the_last_sign_of_life(job, monkeypatch):
    sign = job.folder / "heartbeat.json"
    write_json(sign, {"phase": "training", "step": 7, "total": 9, "time": 0.0, "host": "elsewhere", "pid": 1})

    def write(path, content):
        if sign.exists() or len(str(content)) > 4000:
            raise FULL
        write_json(path, content)

    monkeypatch.setattr("harness.store.records.write_json", write)
    full = OSError(errno.ENOSPC, "No space left on device")
    full.__cause__ = ValueError("long " * 2000)
    job.fail(full)
    assert status(job, None).failure == "disk full"
    assert read_json(sign.with_name("error.json"))["step"] == 7


def test_a_full_disk_that_nothing_can_be_written_to_is_told_by_the_jobs_output(job, monkeypatch, capfd):
    def refuse(*_):
        raise FULL

    monkeypatch.setattr("harness.store.records.write_json", refuse)
    outcome = job.fail(FULL)
    assert outcome.state == "failed"
    assert "could not be stored" in outcome.reason
    sent = submission(3, "7_3", evaluations=tuple(eval_id(job.train_id, e) for e in job.evaluations))
    output = output_path(job.store, "7_3")
    output.parent.mkdir(parents=True)
    output.write_text("")
    ends = Answer(ends={"7_3": "COMPLETED"})
    assert status(job, sent, ends).failure == "killed"
    output.write_text(capfd.readouterr().err)
    assert status(job, sent, ends).failure == "disk full"
    assert status(job, sent, Answer(ends={"7_3": "FAILED"})).failure == "disk full"
    assert status(job, sent, Answer(ends={"7_3": "TIMEOUT"})).failure == "time limit"


def test_one_question_tells_of_all_trainings_and_of_those_that_no_grid_wants(job, tmp_path, monkeypatch):
    answer(
        tmp_path, monkeypatch, squeue="7_3|RUNNING|None|0|study-0\n8|PENDING|None|0|other-0\n9|PENDING|None|0|another"
    )
    program = tmp_path / "squeue"
    program.write_text(f"{program.read_text()}echo >> {tmp_path}/asked\n")
    SENT.write(job.scratch)
    submission(None, "8", token="other-0").write(job.store.scratch_folder("0" * 12))
    study = slurm_status([TABLE], job.store)
    states = {s.training.train_id: s.state for s in study.trainings}
    assert states.pop(job.train_id) == "starting"
    assert set(states.values()) == {"not run"}
    assert (study.strays, (tmp_path / "asked").read_text()) == (1, "\n")


def test_how_a_study_stands_whose_scratch_is_closed_is_told_by_its_results(job, monkeypatch):
    table = load_table(GRIDS / "table3.yaml", "smoke", [])

    def closed(store):
        raise PermissionError(errno.EACCES, "Permission denied", str(store.scratch))

    monkeypatch.setattr(type(job.store), "submissions", closed)
    assert slurm_status([table], job.store).joined == training_statuses([table], job.store)
