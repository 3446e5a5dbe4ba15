"""What jobs execute is their sender's alone, whatever the umask and whoever was there first."""

import os
from pathlib import Path

import pytest
from support.jobs import jobs_of, slurm, submission
from support.programs import answer

from harness.errors import UserError
from harness.launchers.private import own_folder, private_folder, problem, remember, remembered, write_private
from harness.launchers.submission import submit
from harness.store.records import SubmitOptions


@pytest.fixture
def open_to_all():
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_to_all")
def test_what_is_sent_is_closed_to_others_and_the_rest_of_scratch_is_not(tmp_path, monkeypatch):
    answer(tmp_path, monkeypatch, squeue="", sbatch="job 7")
    (job,) = jobs_of(tmp_path, "convergence", "seeds=[0]")[:1]
    remember(SubmitOptions(profile="ours"), job.store)
    submit([job], slurm(array_limit=9), [])
    folder = job.store.slurm_folder
    below = [path for path in folder.rglob("*") if path.name != "lock"]  # of no content
    assert len(below) > 100
    assert {path.stat().st_mode & 0o777 for path in (folder, *below) if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in below if path.is_file()} == {0o600}
    assert folder.parent.stat().st_mode & 0o777 == 0o777
    assert (job.scratch / "submission.json").stat().st_mode & 0o777 == 0o666


def test_an_own_folder_is_closed_and_one_that_others_could_write_is_refused_with_the_command(tmp_path):
    folder = tmp_path / "slurm"
    folder.mkdir(mode=0o755)
    with private_folder(folder) as here:
        write_private(here / "a", b"a")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o775)
    message = rf"{folder} can be written by others \(mode 775\), .*: chmod 700 {folder}$"
    with pytest.raises(UserError, match=message), private_folder(folder):
        pass
    folder.chmod(0o700)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to("elsewhere")
    assert problem(folder).startswith(f"{folder} is a link, or no file, and jobs run what lies there")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_and_a_record_of_another_are_refused_by_name(tmp_path, monkeypatch):
    answer(tmp_path, monkeypatch, squeue="", sbatch="job 7")
    (job,) = jobs_of(tmp_path, "convergence", "seeds=[0]")[:1]
    remember(SubmitOptions(profile="ours"), job.store)
    assert remembered(job.store).profile == "ours"
    path = job.store.slurm_folder / "sent.json"
    os.chown(path, 65534, 65534)
    with pytest.raises(UserError, match=rf"{path} belongs to nobody; .* say --profile and --data after: rm {path}$"):
        remembered(job.store)
    os.chown(path.parent, 65534, 65534)
    assert own_folder(job.store) == path.parent.with_name("slurm-root")  # a colleague's, who keeps it closed
    path.parent.chmod(0o755)
    for act in (
        lambda: remembered(job.store),
        lambda: remember(SubmitOptions(), job.store),
        lambda: submit([job], slurm(array_limit=9), []),
    ):
        with pytest.raises(UserError, match=f"{path.parent} belongs to nobody, .*: mv {path.parent} {path.parent}.of"):
            act()


@pytest.mark.parametrize("job", ["../../x", "7;id", "7 --help", "-f", "7\n", "7_", "", "७"])
def test_a_record_with_something_else_than_an_id_names_no_job(tmp_path, job):
    record = submission(None, "7")
    record.write(tmp_path)
    path = Path(tmp_path / record.FILE)
    path.write_text(path.read_text().replace('"7"', repr(job).replace("'", '"')))
    assert type(record).read(tmp_path) is None
