"""Cluster profiles: every field reaches the sbatch file, and what a cluster cannot give is refused with the reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT

from harness.config.cluster_profile import SlurmProfile, load_profile
from harness.config.grid import load_table
from harness.config.settings.resources import Resources
from harness.errors import UserError


def write(folder: Path, text: str) -> Path:
    (folder / "ours.yaml").write_text(text)
    return folder


def flags(text: str) -> set[str]:
    return {line.removeprefix("#SBATCH ").replace("'", "") for line in text.splitlines() if line.startswith("#SBATCH")}


def dry_run(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "harness.cli", "submit", str(ROOT / "grids" / "table2.yaml"), "--scale", "smoke",
               "--dry-run", *words]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": "/nowhere"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


EVERY_FIELD = """
executor: slurm
partitions: {short: {hours: 4, nodes: 1, gpus: 8, cpus: 64, memory_gb: 500}, long: {}}
account: dispersion
qos: urgent
constraint: a100|h100
gpus_by: gres
gpu_kind: a100
signal_seconds: 77
array_throttle: 5
array_limit: 6
exclude: [n7, n8]
max_submitted: 40
offline: true
network_interface: ib0,ib1
gpu_hour_price: 2.5
sbatch: {mail_user: me@lab.org, mail-type: [END, FAIL], wckey: lab, nice: 7, contiguous: true, comment: "it's a # b",
  gres: nvme:1}
srun: {propagate: NONE, overcommit: true}
setup: [module load cuda/12]
environment: {TOKEN: it is, PRICE: 5$, THREADS: 0x2, NCCL_SOCKET_IFNAME: mlx}
resources: {gpus: 4, checkpoint_minutes: 3}
"""


def test_a_dry_run_prints_every_field_without_slurm_and_writes_nothing(tmp_path):
    (tmp_path / "clusters").mkdir()
    write(tmp_path / "clusters", EVERY_FIELD)
    done = dry_run(tmp_path, "--profile", "ours", "--set", "resources.gpus=2")
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.split("#!/bin/bash")[1:]  # 13 trainings in arrays of 6
    assert {
        "--partition=short,long", "--account=dispersion", "--qos=urgent", "--constraint=a100|h100",
        "--gres=gpu:a100:2,nvme:1", "--signal=USR2@77", "--array=0-5%5", "--exclude=n7,n8", "--time=12", "--mem=6GB",
        "--cpus-per-task=1", "--nodes=1", "--ntasks-per-node=2", "--requeue", "--mail-user=me@lab.org",
        "--mail-type=END,FAIL", "--wckey=lab", "--nice=7", "--contiguous",
    } <= flags(first)  # fmt: skip
    assert "--array=0-5%5" in flags(second)
    assert not any(flag.startswith("--array") for flag in flags(third))
    lines = first.splitlines()
    assert lines.index("module load cuda/12") < lines.index("export TOKEN='it is'") < lines.index("# command")
    assert "#SBATCH --comment='it'\"'\"'s a # b'" in lines
    assert "--cpus-per-task=1 --propagate=NONE --overcommit " in first
    assert "export HF_HUB_OFFLINE=1" in lines
    assert "export GLOO_SOCKET_IFNAME=ib0,ib1" in lines
    assert "export NCCL_SOCKET_IFNAME=mlx" in lines  # what is said by the variable's own name goes over it
    assert "no SLURM here" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["clusters"]


def test_the_profile_is_the_lowest_layer_of_resources(tmp_path):
    _, layer = load_profile("ours", write(tmp_path, EVERY_FIELD))

    def resources(*overrides: str) -> Resources:
        return load_table(ROOT / "grids" / "table2.yaml", "smoke", overrides, layer).runs[0].resources

    assert resources().checkpoint_minutes == 3  # the scale does not say it
    assert resources().gpus == 0  # the scale says it
    assert resources("resources.gpus=1").gpus == 1
    plain = load_table(ROOT / "grids" / "table2.yaml", "smoke").runs
    assert [run.train_id for run in plain] == [
        run.train_id for run in load_table(ROOT / "grids" / "table2.yaml", "smoke", (), layer).runs
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("executor: slurm\nacount: x", "ours.yaml:2: acount: unknown key 'acount'; did you mean 'account'?"),
        ("executor: slurm\npartitions:\n  a: {hors: 2}", "ours.yaml:3: partitions.a.hors: unknown key 'hors'; did you"),
        ("executor: slurm\nresources:\n  cpu: 2", "ours.yaml:3: resources.cpu: unknown key 'cpu'; did you mean 'cpus'"),
        ("executor: slurm\nqos: a\nqos: b", "ours.yaml:3: qos: this key is said twice"),
        ("executor: slurm\narray_limit: many", "ours.yaml:2: array_limit"),
        ("executor: slurm\nenvironment: {A B: c}", "ours.yaml:2: environment.A B: the name of a variable"),
        (
            "executor: slurm\nenvironment:\n  HF_HOME: $HOME/hf",
            "ours.yaml:3: environment.HF_HOME: nothing puts a value for $H",
        ),
        (
            "executor: slurm\nenvironment: {A: 'x${B:-c}'}",
            "${B:-c} here; write the value, or ~/ for your home, or a line",
        ),
        ("executor: slurm\nenvironment: {A: $(id)}", "a value for $( here"),
        ("executor: slurm\nenvironment: {A: '`id`'}", "a value for ` here"),
        (
            "executor: slurm\naccount: $USER",
            "ours.yaml:2: account: nothing puts a value for $USER here; write the value",
        ),
        ("executor: slurm\npartitions: {$P: {}}", "ours.yaml:2: partitions.$P: nothing puts a value for $P"),
        (
            "executor: slurm\nenvironment: {A: true}",
            "ours.yaml:2: environment.A: text is expected in quotes, found True",
        ),
        (
            "executor: slurm\nnetwork_interface: ^lo",
            "ours.yaml:2: network_interface: names of network interfaces, such",
        ),
        (
            "executor: slurm\nsbatch:\n  wckey: a\n  reservatoin: b",
            "ours.yaml:4: sbatch.reservatoin: sbatch has no option --reservatoin; did you mean 'reservation'?",
        ),
        (
            "executor: slurm\nsbatch: {cpus_per_task: 4}",
            "sbatch.cpus_per_task: the harness says --cpus-per-task itself; it is set by resources.cpus",
        ),
        ("executor: slurm\nsrun: {output: x}", "the harness says --output itself, and no other way is possible"),
        ("executor: slurm\nsbatch: {gres: 'nvme:1,gpu:2'}", "sbatch: gres: the harness asks for GPUs itself"),
        ("executor: slurm\nsbatch: {mail_user: a, mail-user: b}", "sbatch: --mail-user is said twice"),
        ("executor: slurm\nsbatch: {hold: false}", "sbatch.hold: text, a number, a list of these, or true"),
        ('executor: slurm\nsbatch: {comment: "a\\n#SBATCH --uid=0"}', r"may not hold the control character \n"),
        ("executor: slurm\nsbatch: {comment: $(id)}", "sbatch.comment: nothing puts a value for $("),
        (
            "executor: slurm\ncontainer: {runtime: docker, image: a}",
            "ours.yaml:2: container.runtime: 'docker' is not legal",
        ),
        (
            "executor: slurm\ncontainer: {runtime: pyxis, image: a, mounts: [b]}",
            "container.mounts.0: a folder to mount is written /path or /path:/path/inside",
        ),
        ("account: x", "ours.yaml:1: executor: slurm or local is expected, found None"),
        ("executor: local\naccount: x", "ours.yaml:2: account: unknown key 'account'"),
    ],
)
def test_a_mistake_in_a_profile_is_told_by_its_line(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        load_profile("ours", write(tmp_path, text))
    assert message in str(caught.value)


LIMITED = SlurmProfile(partitions={"short": {"hours": 4, "gpus": 1, "memory_gb": 16}, "long": {"hours": 48, "gpus": 2}})


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"hours": 50}, r"no partition meets them (short: 50 hours asked for, at most 4; long: 50 hours"),
        ({"gpus": 4}, "long: 4 gpus asked for, at most 2"),
        ({"hours": 5, "partition": "short"}, "(short: 5 hours asked for, at most 4)"),
        ({"partition": "shrt"}, "no partition 'shrt'; did you mean 'short'?"),
        ({"hours": 0.05}, "180 s is too short for signal_seconds: 120"),
    ],
)
def test_what_the_cluster_cannot_give_is_refused(resources, message):
    with pytest.raises(UserError) as caught:
        LIMITED.check(Resources(**resources))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"hours": 2, "gpus": 1}, "short,long"),
        ({"hours": 5}, "long"),
        ({"hours": 2, "processes": 5}, "long"),  # 5 processes of 4 GB
        ({"hours": 2, "partition": "short"}, "short"),
    ],
)
def test_a_job_goes_to_all_partitions_that_it_fits(resources, expected):
    assert LIMITED.partition(Resources(**resources)) == expected


@pytest.mark.parametrize(
    ("by", "kind", "expected"),
    [("gpus_per_node", None, "4"), ("gpus_per_task", "h100", "h100:2"), ("gres", "h100", "gpu:h100:4")],
)
def test_gpus_are_asked_for_as_the_cluster_wants(by, kind, expected):
    profile, resources = SlurmProfile(gpus_by=by, gpu_kind=kind), Resources(gpus=4, processes=2)
    assert profile.parameters(resources, "name", 3)[by] == expected
    with pytest.raises(UserError, match="cannot be shared evenly"):
        SlurmProfile(gpus_by="gpus_per_task").check(Resources(gpus=3, processes=2))


MIXED = SlurmProfile(
    partitions={
        "short": {"hours": 4}, "long": {"account": "lab", "gpu_hour_price": 3, "gpu_kind": "h100"},
        "other": {"account": "spare", "qos": "low", "constraint": "amd", "gpu": "A100"}, "more": {"account": "lab"},
    },
    account="lab", gpu_hour_price=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("resources", "partition", "account", "qos", "gpus", "price", "gpu"),
    [
        ({"hours": 2, "gpus": 1}, "short,more", "lab", None, "1", 2, None),
        ({"hours": 9, "gpus": 1}, "long", "lab", None, "h100:1", 3, None),
        ({"gpus": 1, "partition": "other,more"}, "other", "spare", "low", "1", 2, "A100"),
    ],
)
def test_partitions_that_need_something_else_are_not_mixed(resources, partition, account, qos, gpus, price, gpu):
    asked = Resources(**resources)
    sent = MIXED.parameters(asked, "name", 1)
    assert (sent["partition"], sent["account"], sent.get("qos"), sent["gpus_per_node"]) == (
        partition, account, qos, gpus
    )  # fmt: skip
    assert (MIXED.price(asked), MIXED.gpu(asked)) == (price, gpu)


def test_processes_start_in_a_container_and_by_another_interpreter():
    folders, words = [Path("/results"), Path("/scratch")], ["-c", "x"]
    apptainer = {"runtime": "apptainer", "image": "/im.sif", "mounts": ["/local:/mnt:ro"], "options": ["--cleanenv"]}
    profile = SlurmProfile(container=apptainer, python="/opt/python")
    bound = "--bind=/results,/scratch,/local:/mnt:ro"
    expected = ["apptainer", "exec", "--nv", bound, "--cleanenv", "/im.sif", "/opt/python", "-c", "x"]
    assert profile.command(words, Resources(gpus=1), folders) == expected
    assert "--nv" not in profile.command(words, Resources(), folders)
    pyxis = SlurmProfile(container={"runtime": "pyxis", "image": "nvcr.io#a/b:1", "mounts": ["/local"]})
    srun = pyxis.parameters(Resources(), "name", 1, folders)["srun_args"]
    mounts = "--container-mounts=/results:/results,/scratch:/scratch,/local:/local"
    assert srun[-2:] == ["--container-image=nvcr.io#a/b:1", mounts]
    assert pyxis.command(words, Resources(), folders) == ["python3", "-c", "x"]
    assert SlurmProfile().command(words, Resources(), folders) == [sys.executable, "-c", "x"]
    with pytest.raises(UserError, match="cannot be mounted"):
        pyxis.parameters(Resources(), "name", 1, [Path("/a:b")])
    assert (
        "export HARNESS_STAGE_DATA='$TMPDIR'"
        in SlurmProfile(stage_data="$TMPDIR").parameters(Resources(), "name", 1)["setup"]
    )


def test_the_example_says_every_field_and_the_shipped_profiles_hold():
    example, _ = load_profile("slurm-example", ROOT / "clusters")
    assert example.model_fields_set == set(SlurmProfile.model_fields) - {"extends"}
    assert load_profile("local", ROOT / "clusters")[0].executor == "local"
    assert load_profile("two-node-test", ROOT / "clusters")[0].gpus_by == "gres"
