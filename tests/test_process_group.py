"""Which process this one is follows from who started it."""

import socket
import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from harness.engine.distributed import ALONE, joined
from harness.errors import UserError
from harness.process_group import (
    ProcessPlace,
    file_url,
    place_from_submitit,
    place_from_torchrun,
    remark_on_waiting,
    waiting_words,
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
    assert place_from_submitit() is None  # a shell that a job of ours has started
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path / "a folder" / "%j"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert place_from_submitit() == ProcessPlace(3, 4, 1, f"file://{tmp_path}/a folder/7/rendezvous-7-2", True)
    for name, value in TORCHRUNS.items():
        monkeypatch.setenv(name, value)
    assert place_from_torchrun() == ProcessPlace(5, 8, 2, "env://")


TORCHRUNS = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    "left",
    [
        {}, {"MASTER_ADDR": "a"}, {"MASTER_ADDR": "", "MASTER_PORT": ""}, {"WORLD_SIZE": "1"}, {"LOCAL_RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
    ],
)  # fmt: skip
def test_what_a_launcher_left_says_nothing_where_it_speaks_of_one_process(monkeypatch, left):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert place_from_torchrun() is None


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ({"RANK": ""}, "RANK='' in the environment: a whole number from 0 on is expected; "),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' in"),
        ({**TORCHRUNS, "LOCAL_RANK": "-1"}, "LOCAL_RANK='-1' in"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE='2' in the environment, and no RANK, no LOCAL_RANK, no MASTER_ADDR, "),
        ({"RANK": "1"}, "RANK='1' in the environment, and no WORLD_SIZE, "),
        ({**TORCHRUNS, "MASTER_ADDR": ""}, "and no MASTER_ADDR; "),
        ({**TORCHRUNS, "RANK": "8"}, "of WORLD_SIZE processes the last is WORLD_SIZE - 1"),
        ({**TORCHRUNS, "WORLD_SIZE": "0"}, "of WORLD_SIZE processes"),
        ({**TORCHRUNS, "MASTER_PORT": "65536"}, "a port is a number from 1 to 65535"),
        ({**TORCHRUNS, "MASTER_PORT": "http"}, "MASTER_PORT='http' in"),
    ],
)  # fmt: skip
def test_what_no_launcher_says_is_refused_with_the_way_on_without(monkeypatch, left, message):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as raised:
        place_from_torchrun()
    assert message in str(raised.value)
    assert str(raised.value).endswith("unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT")


def test_a_process_that_waits_says_for_whom(tmp_path, monkeypatch, capsys):
    place = ProcessPlace(0, 3, 0, file_url(tmp_path / "rendezvous"))
    with remark_on_waiting(place, 60):
        pass
    assert capsys.readouterr().err == ""
    with remark_on_waiting(place, 0.01):
        time.sleep(0.5)
    words = capsys.readouterr().err
    assert words.startswith(f"process 0 of 3 has waited 0 s for 2 other process(es) at file://{tmp_path}/rendezvous; ")
    assert words.count("\n") == 1
    monkeypatch.setenv("MASTER_ADDR", "node7")
    monkeypatch.setenv("MASTER_PORT", "29500")
    words = waiting_words(ProcessPlace(1, 2, 1, "env://"), 60)
    assert words.startswith("process 1 of 2 has waited 60 s for process 0 at node7:29500 ")
    assert words.endswith("unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT")


def test_a_place_where_nobody_can_be_met_is_said_at_once(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        left = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in left.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=rf"process 0 of 2 cannot meet the others at 127.0.0.1:{port} "), joined():
            pass
