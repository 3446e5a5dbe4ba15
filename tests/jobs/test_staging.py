"""A data set on the node's own disk: copied once, again when it changes, and never into what another could write."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs import jobs_of

from harness.errors import UserError
from harness.jobs import staging
from harness.jobs.job import Job
from harness.jobs.staging import staged


@pytest.fixture
def job(tmp_path) -> Job:
    data = tmp_path / "data"
    for name in (".converted/digits/train.npy", ".converted/other/train.npy", "encoders/vit"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    return jobs_of(tmp_path, "convergence", "seeds=[0]", data=data)[0]


def test_a_job_reads_a_copy_of_its_own_data_set_and_all_else_where_it_is(job, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOCAL", str(tmp_path / "disk"))
    there = staged(job, "$LOCAL")
    files = {str(p.relative_to(there.data)): p.read_text() for p in there.data.rglob("*") if p.is_file()}
    assert files[".converted/digits/train.npy"] == ".converted/digits/train.npy"
    assert not (there.data / ".converted" / "digits" / "train.npy").is_symlink()
    assert (there.data / ".converted" / "other").resolve() == job.data / ".converted" / "other"
    assert (there.data / "encoders" / "vit").read_text() == "encoders/vit"
    assert replace(there, data=job.data) == job
    monkeypatch.setattr(staging, "_copy", None)  # it is there already
    assert staged(job, "$LOCAL") == there
    assert capsys.readouterr().out.count("copied to") == 1
    monkeypatch.undo()
    monkeypatch.setenv("LOCAL", str(tmp_path / "disk"))
    (job.data / ".converted/digits/train.npy").write_text("another")
    assert (staged(job, "$LOCAL").data / ".converted/digits/train.npy").read_text() == "another"
    assert staged(job, None) is job


def test_a_place_that_cannot_be_trusted_or_is_not_there_is_refused(job, tmp_path):
    for place, words in (("$NO_SUCH/x", "the job has no variable $NO_SUCH"), ("disk", "an absolute path is expected")):
        with pytest.raises(UserError) as caught:
            staged(job, place)
        assert words in str(caught.value)
    folder = Path(staged(job, str(tmp_path / "disk")).data).parent
    folder.chmod(0o777)
    with pytest.raises(UserError, match="not this user's alone to write"):
        staged(job, str(tmp_path / "disk"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Not a directory; choose another place"):
        staged(job, str(tmp_path / "file" / "below"))
