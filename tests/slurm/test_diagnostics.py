"""What the doctor reads in SLURM's own words."""

import pytest
from support.programs import answer

from harness.config.cluster_profile import Partition
from harness.errors import UserError
from harness.slurm.diagnostics import compare_partition


@pytest.fixture(autouse=True)
def cluster(tmp_path, monkeypatch):
    partitions = "gpu|up|1-12:30:00|4|64+|512000|gpu:a100:4(S:0-1)\nold|down|infinite|1|8|16000|(null)"
    answer(tmp_path, monkeypatch, sinfo=partitions)


def test_the_doctor_reads_what_slurm_says_of_partitions():
    limits = "hours 36.5, nodes 4, cpus 64, memory_gb 512, gpus 4"
    assert compare_partition("gpu", Partition(hours=36.5, gpus=4)) == limits


@pytest.mark.parametrize(
    ("name", "promised", "words"),
    [
        ("gpu", Partition(gpus=8), "the profile says gpus: 8, SLURM says 4"),
        ("old", Partition(), "it is down"),
        ("gpus", Partition(), "SLURM has no such partition; did you mean 'gpu'?"),
    ],
)
def test_a_promise_that_the_cluster_does_not_keep_is_told(name, promised, words):
    with pytest.raises(UserError) as caught:
        compare_partition(name, promised)
    assert words in str(caught.value)
