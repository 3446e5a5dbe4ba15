"""What would fail late is refused early, for each of the jobs and not only for one that looks like them."""

import pytest
from support.places import GRIDS

from harness.config.grid import load_table
from harness.errors import UserError
from harness.jobs.job import jobs_for
from harness.jobs.preflight import check
from harness.store.store import Store

ALIGNED = ("alignment.loss=cosine", "alignment.encoder=vit_tiny_patch16_224")
ABSENT = f"alignment.weights={'ab' * 32}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def make_job(folder, data, *overrides):
    run = load_table(GRIDS / "table2.yaml", "smoke", overrides).runs[0]
    (job,) = jobs_for([run], Store(folder / "results", folder / "scratch", "study"), data)
    return job


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((*ALIGNED, ABSENT), "alignment.weights: no file of sha256 abab"),
        (("data.classes=7",), "the scale says"),
        (("data.name=elsewhere",), "data set elsewhere"),
    ],
)
def test_one_job_that_could_not_end_is_found_among_others(tmp_path, data, overrides, message):
    good, bad = make_job(tmp_path, data), make_job(tmp_path, data, *overrides)
    check([good])
    for jobs in ([good, bad], [bad, good]):
        with pytest.raises(UserError, match=message):
            check(jobs)
    assert not (tmp_path / "results").exists()


def test_each_job_must_be_shared_out_evenly(tmp_path, data):
    job = make_job(tmp_path, data)
    group, batch = 16, job.train.batch
    check([job], processes=batch // group)
    with pytest.raises(UserError, match=r"resources\.processes: "):
        check([job], processes=batch // group * 2 + 1)
