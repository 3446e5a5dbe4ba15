"""Which of several processes one is."""

from harness.engine.distributed import ALONE, joined
from harness.process_group import ProcessPlace, place_from_submitit, place_from_torchrun


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
