"""Two accounts on a real SLURM: whatever the other puts into a scratch where both may write, nothing of it runs."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.real_slurm import PROFILE, ROOT, harness, metrics_of, queued_jobs, wait_for, write_profile

pytestmark = [pytest.mark.integration, pytest.mark.slow]
GRID = ("grids/convergence.yaml", "--scale", "smoke", "--study")


@pytest.fixture
def tmp_path():
    """A folder that the other account can reach; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="two-accounts-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def other(needs, tmp_path):
    """Run a script of shell as another account, in a scratch that both may write; return what it could not do."""
    needs("runuser")
    if os.geteuid() != 0:
        pytest.skip("only root acts for another account")
    (tmp_path / "marks").mkdir(mode=0o777)
    (tmp_path / "marks").chmod(0o777)

    def act(script: str) -> str:
        done = subprocess.run(["runuser", "-u", "nobody", "--", "sh", "-c", script], capture_output=True, text=True)
        return done.stderr

    return act


@pytest.fixture
def shared(tmp_path, study) -> Path:
    """The study's folder in scratch, where everybody may write, as a group may under umask 002."""
    folder = tmp_path / "scratch" / study
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        path.chmod(0o777)
    return folder


def evil(folder: Path) -> str:
    """Return the shell by which another makes all code of a folder's copies their own, and the tasks."""
    mark = f"{folder.parents[2]}/marks/ran"
    return (
        f"for f in $(find {folder} -name '*.py'); do echo \"open('{mark}', 'w')\" > $f; done;"
        f"for f in $(find {folder} -name '*.json' -o -name '*.pkl' -o -name '*.sh'); do echo '[]' > $f; done"
    )


def held(folder: Path, study: str) -> tuple[str, ...]:
    """Return the words that submit two trainings which wait until the file `stuck` is gone."""
    return (
        "submit",
        *GRID,
        study,
        *write_profile(folder, "waits", setup=[f"while [ -e {folder}/stuck ]; do sleep 1; done"]),
    )


def test_what_another_puts_in_the_place_of_a_waiting_jobs_folder_is_not_run_and_the_owner_is_told(
    study, shared, other, tmp_path
):
    (tmp_path / "stuck").touch()
    harness(tmp_path, *held(tmp_path, study))
    slurm = shared / "slurm"
    assert "Permission denied" in other(f"echo evil > {slurm}/sent.json; touch {slurm}/code-x; rm -rf {slurm}/*")
    assert "Permission denied" in other(f"ls {slurm}")
    # The folder above is everybody's: they take ours away, and put a whole folder of their own in its place.
    assert other(f"mv {slurm} {shared}/away && mkdir -m 777 {slurm}") == ""
    for path in (shared / "away").iterdir():  # what a reader of the open code and its tasks could write
        (shutil.copytree if path.is_dir() else shutil.copy)(path, slurm / path.name)
    subprocess.run(["chown", "-R", "nobody", str(slurm)], check=True)
    subprocess.run(["chmod", "-R", "a+rwX", str(slurm)], check=True)
    other(evil(slurm))
    (tmp_path / "stuck").unlink()
    wait_for(lambda: not queued_jobs(study))
    assert not metrics_of(tmp_path, study)
    assert not (tmp_path / "marks" / "ran").exists()
    output = " ".join(harness(tmp_path, "status", study).split())
    assert output.count(" failed: killed, SLURM job ") == 2
    assert f"scratch/{study}/slurm belongs to nobody, and jobs run what lies there" in output
    for command in (("retry", study, "--class", "killed", *PROFILE), ("submit", *GRID, study, *PROFILE)):
        refused = harness(tmp_path, *command, fails=True)
        assert f"{slurm} belongs to nobody" in refused
        assert refused.count("\n") == 1
    # The command that the message names, and a retry, mend it.
    shutil.move(slurm, f"{slurm}.of-others")
    harness(tmp_path, "retry", study, "--class", "killed", *PROFILE)
    wait_for(lambda: len(metrics_of(tmp_path, study)) == 8)
    assert len(metrics_of(tmp_path, study)) == 8
    assert not (tmp_path / "marks" / "ran").exists()


def test_a_folder_that_another_made_first_is_refused_and_nothing_of_its_profile_is_taken(
    study, shared, other, tmp_path
):
    profiles = tmp_path / "marks" / "p.yaml"
    other(
        f'mkdir -m 777 {shared}/slurm; echo \'{{"profile": "../marks/p"}}\' > {shared}/slurm/sent.json;'
        f"printf 'executor: slurm\\nsetup: [touch {tmp_path}/marks/ran]\\n' > {profiles}"
    )
    for command in (("submit", *GRID, study, *PROFILE), ("submit", *GRID, study, *PROFILE, "--dry-run")):
        assert f"{shared}/slurm belongs to nobody" in harness(tmp_path, *command, fails=True)
    assert f"{shared}/slurm belongs to nobody" in harness(tmp_path, "retry", study, "--failed", fails=True)
    assert not queued_jobs(study)
    assert not (tmp_path / "marks" / "ran").exists()


def test_caches_and_checkpoints_of_another_are_data_and_no_code(study, shared, other, tmp_path):
    """Pickles and modules by every name that a run could look for, where results and caches stay shared."""
    cache = shared.parent / ".cache"
    reduce = f"import os, pickle\nclass E:\n def __reduce__(s): return os.system, ('touch {tmp_path}/marks/ran',)\n"
    (tmp_path / "evil.py").write_text(reduce + "import sys\nopen(sys.argv[1], 'wb').write(pickle.dumps(E()))\n")
    harness(tmp_path, "run", *GRID, study, "--set", "seeds=[7]")
    shared_by_tests = cache.resolve()
    cache.unlink()
    shutil.copytree(shared_by_tests, cache)
    files = [path for root in (cache, shared) for path in root.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert files
    subprocess.run(["chmod", "-R", "a+rwX", str(shared.parent)], check=True)
    assert other(f"python3 {tmp_path}/evil.py {tmp_path}/marks/evil.pkl") == ""
    for path in files:
        assert other(f"cp {tmp_path}/marks/evil.pkl '{path}'") == ""
    for path in tmp_path.glob(f"results/{study}/*/evals/*.json"):
        path.unlink()
    harness(tmp_path, "submit", *GRID, study, "--set", "seeds=[7]", *PROFILE)
    wait_for(lambda: not queued_jobs(study))
    assert not (tmp_path / "marks" / "ran").exists()
    output = " ".join(harness(tmp_path, "status", study).split())
    assert len(set(re.findall(r"(\S+): damaged: ", output))) == 2  # the owner is told which file to delete


@pytest.fixture
def colleague(needs, tmp_path):
    """Call the harness as another account that may write where the study lies, and may read this Python."""
    needs("setpriv")
    if os.geteuid() != 0:
        pytest.skip("only root acts for another account")
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    account = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads)

    def call(*words: str) -> str:
        work = (tmp_path / "results", *tmp_path.glob("scratch/*/[0-9a-f]*"), *tmp_path.glob("scratch/*/submit.lock"))
        subprocess.run(["chmod", "-R", "a+rwX", *map(str, work)], check=True)
        command = [*account, sys.executable, "-m", "harness.cli", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_a_colleague_is_told_what_the_sender_is_sends_nothing_twice_and_ends_nothing_of_the_sender(
    study, shared, colleague, tmp_path
):
    closed = write_profile(tmp_path, "closed", partitions={"closed": {}}, resources={"partition": "closed"})
    submit = ("submit", *GRID, study, *closed)
    harness(tmp_path, *submit)
    jobs = {job.id for job in queued_jobs(study)}
    assert len(jobs) == 2
    assert colleague("status", study) == harness(tmp_path, "status", study)
    assert "2 trainings are in the queue already" in colleague(*submit)
    assert "there are 2 of root: each ends their own" in colleague("cancel", study, "--yes")
    assert {job.id for job in queued_jobs(study)} == jobs
    # The sender's are gone; the colleague sends them, from a folder of their own, and the sender sees that.
    harness(tmp_path, "cancel", study, "--yes")
    assert "Submitted 2 trainings" in colleague("retry", study, "--class", "cancelled", *closed)
    assert (shared / "slurm-nobody").stat().st_uid == 65534
    assert "2 trainings in SLURM's queue" in harness(tmp_path, "status", study)
    assert "2 trainings are in the queue already" in harness(tmp_path, *submit)
    assert "Left, for they are" not in harness(tmp_path, "cancel", study, "--yes", "--all-users")
