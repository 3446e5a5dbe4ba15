"""Some tables on a real SLURM while everything happens; `tests/cluster/chaos.py` does the same to any grids."""

import os
import tempfile
from pathlib import Path

import pytest
from cluster import chaos

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long, pytest.mark.disturbs]
GRIDS = [f"grids/table{number}.yaml" for number in ("3", "6", "7b")]


def test_nothing_is_lost_whatever_happens_while_two_people_work_in_one_study(cluster, needs, capsys):
    needs("setpriv")
    if os.geteuid() != 0:
        pytest.skip("only root acts for another account")
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as place:  # the other can reach it
        Path(place).chmod(0o711)
        folder = Path(place) / "project"
        with capsys.disabled(), chaos.project(folder, longer=2):
            disturbed, lost = chaos.run(folder, GRIDS, "chaos", seed=0)
            assert len(chaos.metrics_of(folder, chaos.INLINE)) == 13
    assert len(disturbed.done) == 11
    assert " failed: disk full" in disturbed.status
    mended = "make room in the folders of results and scratch, then: harness retry chaos --class 'disk full'"
    assert mended in disturbed.status
    assert not lost
    colleague = disturbed.colleague
    assert not colleague.crashes
    assert not disturbed.ended_by_others()
    assert colleague.ended > 0
    assert all(colleague.done[act] for act in ("status", "logs", "submit", "cancel", "retry")), colleague.done
