"""What is sent: each job once, no more than the queue may hold, and what measurements need no training."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs import jobs_of, slurm, submission
from support.places import ROOT
from support.plugin_files import write_plugin_grid
from support.programs import answer, write_program

from harness import plugins
from harness.config.cluster_profile import Partition, SlurmProfile
from harness.config.grid import load_table
from harness.config.settings.resources import Resources
from harness.errors import UserError
from harness.jobs.job import jobs_for, jobs_from_json, jobs_to_json
from harness.launchers.snapshot import as_received, as_sent, snapshot
from harness.launchers.submission import measurement_jobs, submit, submit_all, texts
from harness.slurm.slurm_launcher import SlurmLauncher
from harness.store.records import Failure, Submission
from harness.store.store import Store


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Thirteen jobs, and a SLURM that holds one of them and takes others three at a time."""
    answer(
        tmp_path,
        monkeypatch,
        squeue="7_3|PENDING|None|0|study-0\n8|RUNNING|None|0|another",
        srun="",
        scontrol="",
        scancel="",
    )
    counted = f"echo >> {tmp_path}/calls; echo Submitted batch job $((8 + $(wc -l < {tmp_path}/calls)))"
    write_program(tmp_path, "sbatch", counted)
    return jobs_of(tmp_path, "table2")


def test_no_more_is_sent_than_the_queue_may_hold_and_a_lost_id_is_found(jobs):
    store, first = jobs[0].store, jobs[0].train_id
    submission(3).write(store.scratch_folder(first))  # nobody knows its id
    sent = submit(jobs, slurm(max_submitted=7, array_limit=3), [])
    assert (len(sent.queued), len(sent.ids), len(sent.later)) == (1, 5, 7)
    assert (sent.with_less, sent.arrays) == (sent.queued, ["9", "10"])
    records = {
        train_id: record for train_id, of_training in store.submissions().items() for record in of_training.values()
    }
    assert records.pop(first).job == "7_3"
    assert sorted(record.job for record in records.values()) == sorted(sent.ids)


def test_a_dry_run_shows_byte_for_byte_what_sbatch_is_given(jobs, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    write_program(tmp_path, "sbatch", f"cat $1 > {kept}/$(ls {kept} | wc -l)", f"echo job 1$(ls {kept} | wc -l)")
    submission(3).write(jobs[0].store.scratch_folder(jobs[0].train_id))  # one that the queue has already
    profile = slurm(max_submitted=11, array_limit=4, setup=("module load 'a b'",), constraint="a|b")
    for again in range(2):  # the second time what was sent before is known, and not in the queue
        shown, note = texts(jobs, profile, [])
        assert not note
        submit(jobs, profile, [])
        files = sorted(kept.iterdir(), key=lambda path: int(path.name))
        assert [path.read_text() for path in files][3 * again :] == shown
        assert [f"--array=0-{last}%" in text for last, text in zip((3, 3, 0), shown, strict=True)] == [
            True,
            True,
            False,
        ]
    names = {line for path in kept.iterdir() for line in path.read_text().splitlines() if "--job-name" in line}
    assert len(names) == 6


def test_trainings_that_share_a_gpu_are_one_element_of_the_array(jobs, tmp_path):
    resources = Resources(gpus=1, jobs_per_gpu=4, cpus=3, memory_gb=5)
    sharing = [replace(job, resources=resources) for job in jobs]
    (text,), _ = texts(sharing, slurm(gpus_by="gpus_per_task"), [])  # 13 trainings
    lines = {line.removeprefix("#SBATCH ") for line in text.splitlines()}
    asked = {"--array=0-3%4", "--gpus-per-task=1", "--ntasks-per-node=1", "--cpus-per-task=12", "--mem=20GB"}
    assert asked <= lines
    sent = submit(sharing, slurm(array_limit=3), [])  # an array of three elements, and one of one
    records = [Submission.read(job.scratch) for job in sharing]
    assert [record.index for record in records] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, None]
    assert [record.job for record in records] == sent.ids
    assert (len(set(sent.ids)), sent.trainings) == (4, 13)
    few = submit(sharing, slurm(max_submitted=5, array_limit=9), [])  # two are there: three more, twelve trainings
    assert (len(set(few.ids)), few.trainings, len(few.later)) == (3, 12, 1)
    assert len(submit(sharing, slurm(array_limit=9), []).ids) == 13  # nothing of it is in the queue of this test


def test_a_study_has_no_more_jobs_than_its_throttle_and_small_trainings_share_them(jobs, tmp_path):
    small = [replace(job, resources=Resources(trainings_per_job=4, cpus=3)) for job in jobs]
    (text,), _ = texts(small, slurm(study_throttle=3), [])  # 12 of 13 trainings
    assert "#SBATCH --array=0-2%3" in text
    assert "#SBATCH --cpus-per-task=3" in text  # one after the other
    assert "wckey" not in text
    beside = [replace(job, resources=Resources(trainings_at_once=4, trainings_per_job=13, cpus=3)) for job in jobs]
    (text,), _ = texts(beside, slurm(), [])
    assert "--array" not in text
    assert "#SBATCH --cpus-per-task=12" in text
    assert "#SBATCH --mem=16GB" in text
    sent = submit(small, slurm(study_throttle=2), [])
    assert (len(sent.jobs), len(sent.later), sent.ids[::4]) == (8, 5, ["9_0", "9_1"])
    submission(3, folder="slurm").write(jobs[12].store.scratch_folder(jobs[12].train_id))  # which SLURM has
    sent = submit(small[8:], slurm(study_throttle=3), [])  # the queue of this test holds two
    assert (len(sent.jobs), len(sent.queued), len(sent.later)) == (4, 1, 0)
    assert len(submit(small[:8], slurm(study_throttle=1), []).later) == 8


def test_all_is_sent_once_as_there_is_room_and_a_refusal_that_lasts_is_told(jobs, tmp_path, monkeypatch):
    pauses, sleep = list[float](), time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: pauses.append(seconds) if seconds >= 1 else sleep(seconds))
    limit, sizes = "sbatch: error: Job violates accounting/QOS policy (job submit limit, ...)", list[int]()
    full = f"[ $(wc -l < {tmp_path}/calls) -le 2 ] && {{ echo '{limit}' >&2; exit 1; }}"
    write_program(tmp_path, "sbatch", f"echo >> {tmp_path}/calls", full, f"echo job 1$(wc -l < {tmp_path}/calls)")
    submit_all(
        jobs,
        slurm(max_submitted=6, array_limit=100),
        [],
        lambda sent: sizes.append(len(sent.jobs)),
    )
    assert sizes == [3, 4, 4, 2]  # half of six when it was refused; of six the queue of this test holds two
    assert pauses == [2, 2, 2, 2, 2]
    pauses.clear()
    said = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)"
    for words in ("Invalid account", f"QOSMaxWallDurationPerJobLimit\n{said}"):
        write_program(tmp_path, "sbatch", f"echo 'sbatch: error: {words}' >&2; exit 1")
        with pytest.raises(UserError, match=words.partition("\n")[0]):
            submit_all(jobs, slurm(), [], print)
    assert not pauses


def test_a_limit_that_nobody_tells_of_is_found_by_sending_less(jobs, tmp_path, monkeypatch, capsys):
    """A limit that users share, which holds two jobs."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    said, sizes = (
        "sbatch: error: AssocGrpSubmitJobsLimit\nJob violates accounting/QOS policy (job submit limit)",
        list[int](),
    )
    large = f"grep -qE 'array=0-([2-9]|1[0-9])' $1 && {{ echo '{said}' >&2; exit 1; }}"
    write_program(tmp_path, "sbatch", large, "echo job 9")
    submit_all(jobs, slurm(array_limit=100), [], lambda sent: sizes.append(len(sent.jobs)))
    assert (sum(sizes), max(sizes)) == (13, 2)
    assert "SLURM takes no more now, and is asked again: " in capsys.readouterr().err


def test_a_dry_run_without_slurm_says_so(jobs, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    shown, note = texts(jobs, slurm(max_submitted=11), [])
    assert "--array=0-10%11" in shown[0]
    assert note.startswith("as for an empty queue, for SLURM was not asked: no SLURM here")


@pytest.fixture
def divided(jobs, tmp_path):
    """Two trainings of four jobs each, and a SLURM that holds what sbatch took and nobody has taken out."""
    taken = 'sed -n "s/^#SBATCH --job-name=/$id|PENDING|None|0|/p" $last'
    lines = f"echo $* >> {tmp_path}/words; id=$(wc -l < {tmp_path}/words); for last; do :; done"
    write_program(tmp_path, "sbatch", lines, f"{taken} >> {tmp_path}/queue; echo Submitted batch job $id")
    write_program(tmp_path, "squeue", f"[ ! -e {tmp_path}/queue ] || cat {tmp_path}/queue")
    return jobs_of(tmp_path, "table2", "resources.sample_shards=2", "evaluation.samples=200")[:2]


def ids_of(job) -> dict[str, str]:
    return {record.part: record.job for record in job.store.submissions_of(job.train_id).values()}


def needed(tmp_path) -> list[str]:
    """Return what each sbatch was told to wait for."""
    calls = (tmp_path / "words").read_text().splitlines()
    return [next((w.partition("afterok:")[2] for w in call.split() if "afterok" in w), "") for call in calls]


def test_a_training_in_shards_is_an_array_of_them_after_it_and_measuring_after_them(divided, tmp_path):
    first, second = divided
    sent = submit(divided, slurm(array_limit=100), [])
    assert (sent.trainings, len(sent.ids)) == (2, 8)
    assert ids_of(first) == {"train": "1_0", "sample-1-of-2": "2_0", "sample-2-of-2": "2_1", "measure-of-2": "3"}
    assert ids_of(second) == {"train": "1_1", "sample-1-of-2": "4_0", "sample-2-of-2": "4_1", "measure-of-2": "5"}
    assert needed(tmp_path) == ["", "1_0", "1_0:2_0:2_1", "1_1", "1_1:4_0:4_1"]
    assert all("--kill-on-invalid-dep=yes" in line for line in (tmp_path / "words").read_text().splitlines()[1:])


def test_what_was_lost_of_a_training_in_shards_is_sent_again_alone(divided, tmp_path):
    first = divided[0]
    submit([first], slurm(array_limit=100), [])
    names = [line.split("|")[-1] for line in (tmp_path / "queue").read_text().splitlines()]
    held = [f"2_1|RUNNING|None|0|{names[1]}"]  # the training and the first shard are gone, and so is the measuring
    (tmp_path / "queue").write_text("\n".join(held) + "\n")
    for spec in first.evaluations:
        first.scratch.mkdir(parents=True, exist_ok=True)
        (first.scratch / f"weights-{spec.step:08d}.safetensors").touch()
    assert submit([first], slurm(array_limit=100), []).ids == ["4", "5"]
    assert ids_of(first) == {"train": "1", "sample-1-of-2": "4", "sample-2-of-2": "2_1", "measure-of-2": "5"}
    assert needed(tmp_path)[3:] == ["", "4:2_1"]
    whole = replace(first, resources=first.resources.model_copy(update={"sample_shards": 1}))
    assert submit([whole], slurm(array_limit=100), []).queued == [whole]  # its parts are at work


def test_a_second_phase_is_sent_to_wait_for_its_first_also_alone(divided, tmp_path):
    first, *_, second = jobs_of(tmp_path, "table8")
    assert second.first_phase_id == first.train_id
    assert submit([first, second], slurm(array_limit=100), []).ids == ["1", "2"]
    queue = (tmp_path / "queue").read_text().splitlines()
    (tmp_path / "queue").write_text(queue[0] + "\n")  # the second is gone
    assert submit([second], slurm(array_limit=100), []).ids == ["3"]
    assert needed(tmp_path) == ["", "1", "1"]


def test_no_training_is_sent_by_half(divided):
    sent = submit(divided, slurm(max_submitted=7, array_limit=100), [])
    assert (sent.trainings, [job.train_id for job in sent.later]) == (1, [divided[1].train_id])
    with pytest.raises(UserError, match=r"sample_shards: a training is 4 jobs, and the queue may hold 3 of them"):
        submit(divided[1:], slurm(max_submitted=3, array_limit=100), [])


def test_a_thousand_trainings_of_fifty_in_a_job_are_one_array_of_twenty(jobs):
    job = replace(jobs[0], resources=jobs[0].resources.model_copy(update={"trainings_per_job": 50}))
    many = [replace(job, train=job.train.model_copy(update={"seed": seed})) for seed in range(1000)]
    (text,), _ = texts(many, slurm(array_limit=1001), [])
    assert "#SBATCH --array=0-19%20\n" in text


def test_where_slurm_hides_the_jobs_of_others_theirs_are_left_to_them_until_they_are_known_to_be_over(
    jobs, tmp_path, monkeypatch
):
    first, second, third = jobs[:3]
    for number, job in enumerate((first, second), 7):
        submission(None, str(number), token=f"study-{number}", user="nobody").write(job.scratch)
    answer(tmp_path, monkeypatch, squeue="", sacct="", scontrol="PrivateData = jobs")
    assert submit([first], slurm(array_limit=9), []).hidden == [first]
    failed = Failure(kind="bug", message="KeyError", slurm_job="8")
    failed.write(second.folder)
    sent = submit([first, second, third], slurm(array_limit=9), [])
    assert (sent.hidden, {job.train_id for job in sent.jobs}) == ([first], {second.train_id, third.train_id})
    answer(tmp_path, monkeypatch, scontrol="PrivateData = none")
    assert submit([first], slurm(array_limit=9), []).jobs == [first]


EVIL = "gpu\ntouch evil\n#"


@pytest.mark.parametrize(
    "key", ["account", "qos", "constraint", "gpu_kind", "exclude", "partitions", "partition", "scratch"]
)
def test_no_value_becomes_a_line_of_its_own_in_the_script(jobs, key):
    store, resources = jobs[0].store, jobs[0].resources.model_copy(update={"gpus": 1})
    value = {"exclude": (EVIL,), "partitions": {EVIL: Partition()}}.get(key, EVIL)
    profile = SlurmProfile().model_copy(update={key: value} if key in SlurmProfile.model_fields else {})
    if key == "partition":
        resources = resources.model_copy(update={key: EVIL})
    if key == "scratch":
        store = replace(store, scratch=store.scratch / EVIL)
    with pytest.raises(UserError, match=r"is no line of an sbatch file: text may not hold the control character \\n"):
        texts([replace(jobs[0], store=store, resources=resources)], SlurmLauncher(profile), [])


def test_a_percent_sign_in_the_folder_is_refused_for_slurm_would_replace_it(jobs):
    store = replace(jobs[0].store, scratch=jobs[0].store.scratch / "50%")
    with pytest.raises(UserError, match="reads '%' in names of files as its own"):
        texts([replace(jobs[0], store=store)], slurm(), [])


def test_what_sbatch_refuses_is_not_recorded_and_ended_where_slurm_took_it_all_the_same(jobs, tmp_path):
    store, first = jobs[0].store, jobs[0].train_id
    before = submission(None, "5", token="study-1")
    before.write(store.scratch_folder(first))
    taken = "sed -n 's/^#SBATCH --job-name=/11|PENDING|None|0|/p' $1"
    write_program(tmp_path, "sbatch", f"{taken} > {tmp_path}/queue; echo 'error: the answer was lost' >&2; exit 1")
    write_program(tmp_path, "squeue", f"[ ! -e {tmp_path}/queue ] || cat {tmp_path}/queue")
    write_program(tmp_path, "scancel", f"echo $* > {tmp_path}/ended")
    with pytest.raises(UserError, match=r"refused array 1 of 1: .*the answer was lost.*\(job none\); not sent: 13"):
        submit(jobs, slurm(array_limit=100), [])
    assert store.submissions() == {first: {store.scratch_folder(first): before}}
    assert (tmp_path / "ended").read_text() == "11\n"


def test_what_was_cancelled_and_is_still_ending_is_ended_again_waited_for_and_then_sent(jobs, tmp_path, capfd):
    first = jobs[0]
    submission(3, "7_3", cancelled=True).write(first.scratch)
    looks = f"echo >> {tmp_path}/looks; [ $(wc -l < {tmp_path}/looks) -gt 2 ] ||"
    write_program(tmp_path, "squeue", f"{looks} echo '7_3|RUNNING|None|{os.geteuid()}|study-0'")
    write_program(tmp_path, "scancel", f"echo $* > {tmp_path}/ended")
    assert len(submit([first], slurm(array_limit=9), []).ids) == 1
    assert (tmp_path / "ended").read_text() == "7_3\n"
    assert "1 of its earlier jobs are ending; they are waited for" in capfd.readouterr().err
    record = Submission.read(first.scratch)
    assert (record.job, record.cancelled, record.cancelled_before) == ("9", False, ("7_3",))


def test_only_what_is_trained_is_measured_by_one_process(tmp_path):
    jobs = jobs_of(tmp_path, "table2")
    assert measurement_jobs(jobs) == []
    shared = replace(jobs[0], resources=jobs[0].resources.model_copy(update={"nodes": 2, "gpus": 4}))
    shared.scratch.mkdir(parents=True)
    (shared.scratch / f"weights-{shared.steps:08d}.safetensors").touch()
    (measuring,) = measurement_jobs([shared, *jobs[1:]])
    assert (measuring.resources.nodes, measuring.resources.team, measuring.resources.gpus) == (1, 1, 1)
    assert measuring.evaluations == shared.evaluations


# The code that a job runs is what was sent, wherever it starts and whatever happens to the tree.


def test_a_copy_of_the_code_is_what_a_job_imports_wherever_it_starts(tmp_path, monkeypatch):
    grids = tmp_path / "ours"
    grids.mkdir()
    (grids / "untracked.yaml").write_text("a: 1")
    monkeypatch.chdir(ROOT)
    logs = tmp_path / "logs"
    logs.mkdir()
    code = snapshot([grids])
    code.write(logs, logs)
    code.write(logs, logs)  # the second submission finds it
    (grids / "untracked.yaml").write_text("a: 2")
    assert (logs / code.name / "ours" / "untracked.yaml").read_text() == "a: 1"
    assert snapshot([grids]).name != code.name
    assert [path.name for path in logs.iterdir()] == [code.name]
    program = (
        "import sys, pathlib, harness\nfrom harness.jobs.recording import source\n"
        f"print(harness.__file__, source(pathlib.Path('{tmp_path}')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(logs / code.name)},
    )  # fmt: skip
    assert done.stdout.startswith(f"{logs}/{code.name}/harness/__init__.py")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert head in done.stdout


@pytest.mark.parametrize("folder", [".", "..", "elsewhere/../.."])
def test_a_grid_beside_ones_work_is_copied_alone_and_into_the_copy(tmp_path, monkeypatch, folder):
    work = tmp_path / "work"
    for name in ("table.yaml", "scales/smoke.yaml", "scratch/study/large", "notes.txt", "here/elsewhere/x"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("a: 1")
    monkeypatch.chdir(work / "here" if folder != "." else work)
    code = snapshot([Path(folder)])
    copied = {name for name in code.files if not name.startswith("harness/")}
    assert copied == {"work/table.yaml", "work/scales/smoke.yaml"}
    code.write(tmp_path, tmp_path)
    assert all((tmp_path / code.name / name).is_file() for name in code.files)


def test_the_files_of_plugins_are_sent_as_they_were_executed_and_jobs_name_those(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_FILES", {})
    (near,) = jobs_for(
        load_table(write_plugin_grid(tmp_path), "smoke").runs[1:], Store(tmp_path, tmp_path, "s"), tmp_path
    )
    executed = (tmp_path / "near_times.py").read_bytes()
    (tmp_path / "near_times.py").write_text("raise SystemExit('edited since')")
    code, (sent,) = snapshot([]), jobs_from_json(jobs_to_json([as_sent(near)]))
    (path,) = sent.plugins
    assert not path.is_absolute()
    assert code.files[str(path)] == executed
    code.write(tmp_path, tmp_path)
    monkeypatch.setattr(plugins, "_FILES", {})
    monkeypatch.setattr("harness.launchers.snapshot.PACKAGE", tmp_path / code.name / "harness")
    as_received(sent).load_plugins()
    assert [file.content for file in plugins.files()] == [executed]
    plugins._FILES.clear()
    with pytest.raises(UserError, match=r"plug-in terms/near-times: the run is of sha256:\w+, and it is not here"):
        replace(sent, plugins=()).load_plugins()
