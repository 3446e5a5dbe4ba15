"""What is read in SLURM's own words of what it allows, and what of a profile or a study does not fit that."""

import getpass

import pytest
from support.programs import answer, write_program

from harness.config.cluster_profile import Partition, SlurmProfile
from harness.config.settings.resources import Resources
from harness.errors import UserError
from harness.slurm.limits import check_account, check_allowed, compare_partition

PARTITIONS = """\
PartitionName=gpu AllowAccounts=lab,other AllowQos=ALL DenyQos=urgent Default=YES MaxNodes=2 MaxTime=1-12:30:00 State=UP
PartitionName=quick AllowAccounts=ALL AllowQos=ALL Default=NO MaxNodes=UNLIMITED MaxTime=00:05:00 State=UP"""


@pytest.fixture(autouse=True)
def cluster(tmp_path, monkeypatch):
    partitions = "gpu|up|1-12:30:00|4|64+|512000|gpu:a100:4(S:0-1)\nold|down|infinite|1|8|16000|(null)"
    answer(tmp_path, monkeypatch, sinfo=partitions, scontrol=PARTITIONS, sacctmgr="lab|normal,long\nroot|normal")


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


BOTH = {"gpu": {}, "quick": {}}


@pytest.mark.parametrize(
    ("profile", "resources", "words"),
    [
        ({"partitions": {"quick": {}}}, {"hours": 1}, "(quick: 1 hours asked for, SLURM allows 0.0833)"),
        ({"partitions": {"quick": {}}}, {"hours": 0.08}, None),
        ({"partitions": BOTH}, {"hours": 1}, None),  # the other allows it
        ({}, {"hours": 37}, "(gpu: 37 hours asked for, SLURM allows 36.5)"),  # the default
        ({"partitions": BOTH}, {"hours": 37}, "gpu: 37 hours asked for, SLURM allows 36.5; quick: 37 hours"),
        ({}, {"nodes": 3}, "gpu: 3 nodes asked for, SLURM allows 2"),
        ({"account": "nobody"}, {}, "gpu: closed to account nobody; open to lab,other"),
        ({"account": "lab"}, {}, None),
        ({"qos": "urgent"}, {}, "gpu: closed to QoS urgent"),
        ({"qos": "urgent"}, {"partition": "unlisted"}, None),
    ],
)
def test_what_no_partition_would_ever_start_is_refused(profile, resources, words, tmp_path):
    profile, asked = SlurmProfile(**profile), [Resources(**resources)]
    if words is None:
        check_allowed(profile, asked)
        return
    with pytest.raises(UserError) as caught:
        check_allowed(profile, asked)
    assert words in str(caught.value)
    write_program(tmp_path, "scontrol", "exit 1")
    check_allowed(profile, asked)  # nobody knows


def test_account_and_qos_are_those_that_accounting_lets_the_user_have():
    assert check_account(SlurmProfile(account="lab", qos="long")) == "account lab, QoS long"
    for profile, words in (
        (SlurmProfile(account="lob"), f"account: {getpass.getuser()} has no account 'lob'; did you mean 'lab'?"),
        (SlurmProfile(account="root", qos="long"), "has no QoS 'long'; legal: normal"),
    ):
        with pytest.raises(UserError) as caught:
            check_account(profile)
        assert words in str(caught.value)
