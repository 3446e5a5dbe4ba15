"""Which process this one is, and which GPU is its own, follow from who started it."""

import os
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from support.jobs import jobs_of

from harness.engine.distributed import ALONE, joined
from harness.process_group import (
    VISIBLE,
    ProcessPlace,
    file_url,
    place_from_submitit,
    place_from_torchrun,
    places_on_this_machine,
)


def test_processes_meet_in_a_folder_whose_name_has_a_space(tmp_path):
    (tmp_path / "a folder").mkdir()
    url = file_url(tmp_path / "a folder" / "rendezvous")
    dist.init_process_group("gloo", init_method=url, rank=0, world_size=1, timeout=timedelta(seconds=9))
    dist.destroy_process_group()


def test_a_process_knows_its_place(monkeypatch, tmp_path):
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
             "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_NUM_NODES": "2"}  # fmt: skip
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert (place_from_torchrun(), place_from_submitit()) == (None, None)  # a shell on a node
    with joined() as world:
        assert world == ALONE
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path / "a folder" / "%j"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert place_from_submitit() == ProcessPlace(3, 4, 1, f"file://{tmp_path}/a folder/7/rendezvous-7-2")
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "MASTER_ADDR": "a"}.items():
        monkeypatch.setenv(name, value)
    assert place_from_torchrun() is None
    monkeypatch.setenv("MASTER_PORT", "1")
    assert place_from_torchrun() == ProcessPlace(5, 8, 2, "env://")


def test_each_process_on_a_machine_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    places = [place for slot in (0, 1) for place in places_on_this_machine(tmp_path, 2, slot)]
    assert [(place.rank, place.local_rank) for place in places] == [(0, 0), (1, 1), (0, 2), (1, 3)]
    assert all(place.world_size == 2 for place in places)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for place in places:
        with joined(replace(place, rank=0, world_size=1)):
            pass
    assert chosen == [0, 1, 2, 0]


@pytest.mark.parametrize(("gpus", "seen"), [(1, "0,1"), (0, "")])
def test_without_gpus_asked_for_none_is_seen(tmp_path, monkeypatch, gpus, seen):
    monkeypatch.setenv(VISIBLE, "0,1")
    job = replace(jobs_of(tmp_path, "convergence", f"resources.gpus={gpus}")[0], evaluations=())
    assert job().reason == "nothing was missing"
    assert os.environ[VISIBLE] == seen
