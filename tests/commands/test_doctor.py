"""`harness doctor` on a machine without SLURM; the machine is told to it."""

import shutil

import pytest

from harness.commands.doctor import examine_machine
from harness.config.grid import load_table
from harness.jobs.machine_check import Gpu, Machine
from harness.store.store import Store

GIB = 2**30
LOCAL = ("--profile", "local")


@pytest.fixture
def local(project, monkeypatch):
    """Return a project whose profile `local` is this machine, though SLURM may be installed, with a petabyte free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2 * 10**15, 10**15, 10**15))
    (project / "clusters").mkdir()
    (project / "clusters" / "local.yaml").write_text("executor: local\njobs: 1\n")
    return project


def card(gibibytes):
    gpu = Gpu("a card", gibibytes * GIB, gibibytes * GIB, bf16=True)
    return Machine("2.11.0, built for CUDA 13.0", (gpu,), compiler="true", trial=lambda: "right")


def test_without_a_gpu_a_grid_for_processors_is_well(local, harness):
    code, out, err = harness("doctor", "grids/table2.yaml", "--scale", "smoke", *LOCAL)
    assert (code, err) == (0, "")
    assert "✓ data set digits: here" in out
    assert "– GPUs: none; scales with resources.gpus: 0 compute on the CPU" in out
    assert "✗" not in out


def test_a_grid_that_lacks_a_gpu_its_data_and_weights_says_each_once(local, harness):
    code, out, err = harness("doctor", "grids/table2.yaml", "--scale", "cifar10", *LOCAL)
    wrong = [line for line in out.splitlines() if line.startswith("✗")]
    assert (code, err, len(wrong)) == (1, "", 3)
    for words in ("GPUs: none, 1 asked for", "harness data get cifar10", "harness data get inception-v3-compat"):
        assert any(words in line for line in wrong)


def test_a_disk_that_cannot_hold_what_a_grid_writes_is_wrong(local, harness, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(40 * 10**9, 20 * 10**9, 20 * 10**9))
    _, out, _ = harness("doctor", "grids/table2.yaml", "--scale", "cifar10", *LOCAL)
    assert any(line.startswith("✗ --scratch") and "20 GB free, about 30 GB needed" in line for line in out.splitlines())
    assert any(line.startswith("✓ --results") for line in out.splitlines())


def test_without_grids_nothing_is_needed_and_what_is_there_is_listed(local, harness):
    code, out, _ = harness("doctor", *LOCAL)
    assert code == 0
    assert "✓ data set digits: here" in out
    assert "– data set cifar10: " in out
    assert "– Inception's weights: " in out


def test_a_card_is_held_against_each_ladder_for_gpus(local):
    lines = {f.subject: f for f in examine_machine(card(139), [], Store(local, local, "doctor"), local)}
    assert "memory for cifar10, batch 128" in lines
    assert "SiT-XL/2 whole batch" in lines["memory for imagenet256, batch 256"].message
    assert not any("smoke" in subject or "digits, batch" in subject for subject in lines)


def test_networks_that_do_not_fit_are_wrong_where_they_are_asked_for(local):
    table = load_table(local / "grids" / "table5.yaml", "imagenet256")
    store = Store(local, local, "doctor")
    for gibibytes, wrong in ((8, True), (139, False)):
        lines = {f.subject: f for f in examine_machine(card(gibibytes), [table], store, local)}
        memory = lines["memory for table5, batch 256"]
        assert memory.wrong == wrong
        assert ("does not fit" in memory.message) == wrong
