"""Which GPU a process computes on follows from its place, and from what its run asks for."""

import os
from dataclasses import replace

import pytest
import torch
from support.jobs import jobs_of

from harness.engine.distributed import joined
from harness.gpu import VISIBLE
from harness.process_group import places_on_this_machine


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


def test_workers_beyond_the_number_of_gpus_share_them_evenly(tmp_path, monkeypatch):
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for slot in range(6):
        (place,) = places_on_this_machine(tmp_path, 1, slot)
        with joined(place):
            pass
    assert chosen == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(("gpus", "seen"), [(1, "0,1"), (0, "")])
def test_without_gpus_asked_for_none_is_seen(tmp_path, monkeypatch, gpus, seen):
    monkeypatch.setenv(VISIBLE, "0,1")
    job = replace(jobs_of(tmp_path, "convergence", f"resources.gpus={gpus}")[0], evaluations=())
    assert job().reason == "nothing was missing"
    assert os.environ[VISIBLE] == seen
