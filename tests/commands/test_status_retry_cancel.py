"""What is told of a study that was begun, what ends its jobs, and which of them a retry takes."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.jobs import jobs_of, submission
from support.places import GRIDS, ROOT
from support.programs import answer, write_program
from support.real_slurm import write_grid
from support.synthetic_study import full_study, new_store, table_of, write_error, write_measurement, write_text

from harness.cli import cli
from harness.commands.options import words_for
from harness.commands.status_retry_cancel import describe, failures, watch_status
from harness.errors import Diverged, UserError
from harness.files import read_json, write_json
from harness.jobs.job import jobs_from_json
from harness.launchers.queue_status import output_path
from harness.store.records import Submission
from harness.store.store import Store


def call(*words: str) -> str:
    return CliRunner().invoke(cli, words, catch_exceptions=False).output


def options(store: Store) -> tuple[str, ...]:
    return store.study, "--results", str(store.results), "--scratch", str(store.scratch)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Table 3 at digits, seed 0, none of it begun, as seen from the project's folder."""
    monkeypatch.chdir(ROOT)
    table, store = table_of("table3", "digits", "seeds=[0]"), new_store(tmp_path)
    store.record_grid("table3", GRIDS / "table3.yaml", "digits", ["seeds=[0]"])
    return table, store, table.cells[0].runs[0]


def test_status_warns_of_the_trainings_whose_features_were_blown_up(study):
    table, store, _ = study
    warned, other = (cell.runs[0].train_id for cell in table.cells[1:3])
    lines = [{"step": step, "distance_start": 0.25, "tau": 0.5} for step in (1, 2, 4)]
    lines[1] |= {"overshoot": 17.4}
    lines[2] |= {"overshoot": 6.2}
    for name, log in ((warned, lines), (other, lines[:1])):
        write_text(store.run_folder(name) / "train.jsonl", "".join(f"{json.dumps(line)}\n" for line in log))
    words = "D has grown 17-fold in 2 steps; τ = 0.5 is 2 times the features' D at the start, 0.25; a tenth of that is"
    told = [line for line in call("status", *options(store)).splitlines() if "D has grown" in line]
    assert len(told) == 1
    assert f"1 of 12, SiT-B/2: {words}" in told[0]
    content = json.loads(call("status", *options(store), "--json"))["trainings"]
    assert [t["train_id"] for t in content if t["warning"].startswith(words)] == [warned]
    assert "" in [t["warning"] for t in content if t["train_id"] == other]


def test_the_status_in_words_and_as_json(study, tmp_path, monkeypatch):
    table, store, run = study
    other = next(r for r in table.runs if r.train_id != run.train_id)
    write_error(store, run, "diverged", "loss not finite")
    answer(tmp_path, monkeypatch, squeue="7_3|PENDING|Resources|0|study-0")
    submission(3).write(store.scratch_folder(other.train_id))
    output = call("status", *options(store))
    assert "1 diverged" in output
    assert "not run" in output
    assert "loss not finite" in " ".join(output.split())
    assert "1 trainings in SLURM's queue: 7_3\n" in output
    assert all("\t" in line or line.startswith("# ") for line in output.splitlines())  # as nobody's terminal hears it
    assert output.splitlines()[-1].startswith("# Next: what began it, 'harness run' or 'harness submit',")
    content = json.loads(call("status", *options(store), "--json"))
    assert {t["train_id"] for t in content["trainings"]} == {r.train_id for r in table.runs}
    assert {t["state"] for t in content["trainings"]} == {"diverged", "not run", "waiting"}
    slurm = {t["train_id"]: (t["state"], t["slurm"]["job"]) for t in content["trainings"]}
    assert (slurm[run.train_id], slurm[other.train_id]) == (("diverged", None), ("waiting", "7_3"))


def test_watching_ends_when_all_is_done(study):
    table, store, _ = study
    naps = []

    def nap(seconds):
        naps.append(seconds)
        for run in table.runs:
            write_measurement(store, run, 3.0)

    watch_status([table], store, nap)
    assert len(naps) == 1


EXCEEDED = "slurmstepd: error: Exceeded job memory limit"


def test_the_last_lines_of_failures_are_those_that_the_status_tells_of(study, tmp_path, monkeypatch):
    table, store, run = study
    ended, cancelled = [r.train_id for r in table.runs if r.train_id != run.train_id][:2]
    write_error(store, run, "bug", "KeyError: nothing")
    answer(tmp_path, monkeypatch, squeue="7_3|FAILED|None|0|study-0", sacct="")
    submission(3, "7_3").write(store.scratch_folder(ended))
    submission(4, "7_4", cancelled=True).write(store.scratch_folder(cancelled))
    output_path(store, "7_3").parent.mkdir(parents=True)
    output_path(store, "7_3").write_text(f"first\n{EXCEEDED}\nKilled\n")
    texts = {f"{run.train_id}: bug\nKeyError: nothing", f"{ended}: out of memory\n{EXCEEDED}\nKilled"}
    assert set(failures(store, 2)) == texts


def test_advice_names_the_folders_that_were_given_and_the_grid_of_what_diverged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("grids", "clusters"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    words = ["run", "grids/convergence.yaml", "--scale", "smoke", "--study", "study", "--results", "else where"]
    diverge = lambda jobs, *_: [job.fail(Diverged("x")) for job in jobs]  # noqa: E731
    monkeypatch.setattr("harness.jobs.local_pool.run_inline", diverge)
    output = call(*words, "--set", "optimizer.learning_rate=9", "--set", "batch=16")
    assert "2 of 2 trainings are not done; the reasons: harness status study --results 'else where'\n" in output
    output = call("status", "study", "--results", "else where")
    assert (
        "in a study of its own, with less: harness run grids/convergence.yaml --scale smoke --set=batch=16 "
        "--study study-2 --results 'else where' --set optimizer.learning_rate=…\n"
    ) in output
    monkeypatch.setenv("HARNESS_RESULTS", "else where")
    assert words_for(Store(Path("else where"), tmp_path / "scratch", "study")) == "study"


def test_what_was_sent_is_cancelled_whatever_the_grids_say_now(tmp_path, monkeypatch):
    job = jobs_of(tmp_path, "table2")[0]
    store = job.store
    answer(tmp_path, monkeypatch, squeue=f"7_3|RUNNING|None|{os.geteuid()}|study-0")
    write_program(tmp_path, "scancel", f"echo $* >> {tmp_path}/ended")
    with pytest.raises(UserError, match="no study here"):
        call("cancel", *options(store), "--yes")
    submission(3, "7_3").write(store.scratch_folder(job.train_id))
    shutil.copytree(job.scratch, job.scratch.with_name("a copy of it"))
    store.record_grid("table5", GRIDS / "table5.yaml", "smoke", [])  # which does not have it
    output = call("status", *options(store))
    assert "1 jobs in the queue are of trainings that no grid of this study wants any more" in output
    assert "Ended 1 jobs" in call("cancel", *options(store), "--yes")
    assert Submission.read(job.scratch).cancelled
    assert (tmp_path / "ended").read_text() == "7_3\n"


@pytest.fixture
def two_senders(tmp_path, monkeypatch):
    """Two trainings: one whose job is ours, one of nobody's; SLURM names what was ended, and refuses what it must."""
    mine, theirs = jobs_of(tmp_path, "table2")[:2]
    mine.store.record_grid("table2", GRIDS / "table2.yaml", "smoke", [])
    submission(3, "7_3").write(mine.scratch)
    submission(None, "8", token="study-1", user="nobody").write(theirs.scratch)
    answer(
        tmp_path, monkeypatch, squeue=f"7_3|RUNNING|None|{os.geteuid()}|study-0\n8|RUNNING|None|65534|study-1", sacct=""
    )
    write_program(tmp_path, "scancel", f"echo $* >> {tmp_path}/ended")
    return mine, theirs


def test_one_ends_the_own_jobs_and_is_told_whose_the_others_are(two_senders, tmp_path):
    mine, theirs = two_senders
    output = call("cancel", *options(mine.store), "--yes")
    assert "Ended 1 jobs." in output
    assert "Left, for they are of others: 1 of nobody" in output
    assert (tmp_path / "ended").read_text() == "7_3\n"
    assert (Submission.read(mine.scratch).cancelled, Submission.read(theirs.scratch).cancelled) == (True, False)
    assert "Ended 2 jobs, 1 of nobody among them." in call("cancel", *options(mine.store), "--yes", "--all-users")
    assert (tmp_path / "ended").read_text() == "7_3\n7_3\n8\n"
    write_program(tmp_path, "squeue", "echo '8|RUNNING|None|65534|study-1'")
    output = call("cancel", *options(mine.store), "--yes")
    assert "no queue holds any of your jobs; there are 1 of nobody" in output
    last = f"{mine.store.study}-last"
    write_program(tmp_path, "squeue", f"echo '9|PENDING|Dependency|{os.geteuid()}|{last}'")
    assert "Ended 0 jobs and the last job" in call("cancel", *options(mine.store), "--yes")
    assert (tmp_path / "ended").read_text().endswith("\n9\n")


def test_jobs_that_slurm_does_not_let_one_end_are_not_recorded_as_cancelled(two_senders, tmp_path):
    mine, theirs = two_senders
    write_program(tmp_path, "scancel", '[ "$1" = 7_3 ] || { echo Access/permission denied >&2; exit 1; }')
    with pytest.raises(UserError, match=r"1 jobs were not ended: SLURM lets only who sent .*Access/permission denied"):
        call("cancel", *options(mine.store), "--yes", "--all-users")
    assert (Submission.read(mine.scratch).cancelled, Submission.read(theirs.scratch).cancelled) == (True, False)


SENT = 7


def test_a_retry_remembers_what_submit_was_told(tmp_path, monkeypatch):
    shutil.copytree(GRIDS, tmp_path / "grids")
    (tmp_path / "clusters").mkdir()
    for name in ("ours", "theirs"):
        (tmp_path / "clusters" / f"{name}.yaml").write_text(f"executor: slurm\naccount: {name}\narray_limit: 9\n")
    monkeypatch.chdir(tmp_path)
    answer(tmp_path, monkeypatch, srun="", squeue="", sacct="")
    write_program(tmp_path, "sbatch", f"sed -n s/#SBATCH.--account=//p $1 >> {tmp_path}/accounts", f"echo job {SENT}")

    def sent(*words: str) -> tuple[str, Path]:
        call(*words)
        tasks = max((tmp_path / "scratch/smoke/slurm").glob("smoke-*.json"), key=lambda path: path.stat().st_mtime_ns)
        (job,) = jobs_from_json(tasks.read_bytes())
        job.fail(ZeroDivisionError())
        return (tmp_path / "accounts").read_text().split()[-1], job.data

    data, retry = tmp_path / "elsewhere", ("retry", "smoke", "--failed")
    submit = ("submit", write_grid(tmp_path, "alone", 0.2), "--scale", "smoke")
    assert sent(*submit, "--profile", "ours", "--data", "elsewhere") == ("ours", data)
    assert sent(*retry) == ("ours", data)
    assert sent(*retry, "--profile", "theirs", "--data", "data") == ("theirs", tmp_path / "data")
    monkeypatch.setenv("HARNESS_DATA", "third")
    assert sent(*retry) == ("ours", tmp_path / "third")
    with pytest.raises(UserError, match=r"resources\.processes"):
        call(*retry, "--set", "resources.processes=7")
    assert len((tmp_path / "accounts").read_text().split()) == 4


def test_a_retry_waits_for_an_accounting_that_is_away_and_alone_knows_how_a_job_ended(project, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    answer(project, monkeypatch, srun="", squeue="", scontrol="MaxArraySize = 1001", sbatch=f"job {SENT}")
    away = "[ -e away ] && { rm away; echo 'Problem talking to the database: Connection refused' >&2; exit 1; }"
    write_program(project, "sacct", away, f"echo '{SENT}|OUT_OF_MEMORY|n1'")
    call("submit", write_grid(project, "alone", 0.2), "--scale", "smoke")
    (project / "away").touch()
    assert "Submitted 1 trainings" in call("retry", "smoke", "--class", "out of memory")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say either --failed or --class"),
        (("--failed", "--class", "bug"), "say either --failed or --class"),
        (("--failed", "--set", "batch=2"), "--set batch=2: a retry may change resources"),
    ],
)
def test_a_retry_that_says_too_little_or_too_much_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        call("retry", "study", *words)


def test_a_damaged_measurement_is_shown_as_such(tmp_path):
    store, table = new_store(tmp_path), table_of("table3")
    full_study(store, [table])
    run = table.runs[0]
    store.eval_path(run.train_id, run.eval_id).write_text('{"spec": {"st', encoding="utf-8")
    text = describe(store, run.train_id)
    assert f"{run.eval_id}.json\nnot to be used: evals/{run.eval_id}.json is broken; the next run" in text
    assert f"--study {store.study}" in text.split("command\n")[1]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("metrics", {"fid": -5.0}, "fid is -5.0; fid is 0 or more"),
        ("metrics", {"fid": "3"}, "fid is '3'"),
        ("spec", {"step": 7}, "its spec is of another measurement"),
        ("train_id", "0" * 12, "holds another measurement"),
    ],
)
def test_an_edited_measurement_is_done_nowhere(study, key, value, words):
    """The report does not take it for a number; so `status`, `plan` and `show` must not either."""
    table, store, run = study
    write_measurement(store, run, 3.0)
    path = store.eval_path(run.train_id, run.eval_id)
    write_json(path, read_json(path) | {key: value})
    status = call("status", *options(store)).splitlines()
    plan = call("plan", str(GRIDS / "table3.yaml"), "--scale", "digits", "--set=seeds=[0]", "--study", *options(store))
    lines = [line for line in (*status, *plan.splitlines()) if run.train_id in line and "\t" in line]
    assert len(lines) == 2
    assert all("unreadable" in line and words in line for line in lines)
    assert f"# table3: 1 unreadable, {len(table.runs) - 1} not run" in status
    shown = call("show", run.train_id, *options(store)[1:])
    assert words in shown.partition("not to be used: ")[2].splitlines()[0]


def test_a_training_may_be_named_by_its_first_letters(tmp_path):
    store, table = new_store(tmp_path), table_of("table3")
    full_study(store, [table])
    folders = ("--results", str(store.results), "--scratch", str(store.scratch))
    name = table.runs[0].train_id
    shortest = next(
        n
        for n in range(1, 13)
        if sum(r.train_id[:n] == name[:n] for r in {r.train_id: r for r in table.runs}.values()) == 1
    )
    assert call("show", name[:shortest], *folders) == call("show", name, *folders)
    (store.root / f"{name[:-1]}{'1' if name[-1] == '0' else '0'}").mkdir()
    with pytest.raises(UserError, match=f"{name[:-1]}: 2 trainings begin so: {name[:-1]}"):
        call("show", name[:-1], *folders)
    with pytest.raises(UserError, match="no training of this name"):
        call("show", "../*", *folders)


def test_a_line_for_each_training_and_for_each_table(study):
    table, store, run = study
    other = next(r for r in table.runs if r.train_id != run.train_id)
    write_measurement(store, run, 3.0)
    write_error(store, other, "bug", "KeyError: nothing")
    lines = call("status", *options(store)).splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line]
    heading, count = rows[0], len({r.train_id for r in table.runs})
    assert len(rows) == 1 + count
    states = {row[heading.index("training")]: row[heading.index("state")] for row in rows[1:]}
    assert (states[run.train_id], states[other.train_id]) == ("done", "failed")
    assert f"# table3: 1 failed, {count - 2} not run, 1 done" in lines
    only = [line for line in call("status", *options(store), "--failed").splitlines() if "\t" in line]
    assert [line.split("\t")[0] for line in only[1:]] == [other.train_id]
