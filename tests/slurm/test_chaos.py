"""Some tables on a real SLURM while everything happens; `tests/cluster/chaos.py` does the same to any grids."""

import pytest
from cluster import chaos

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
GRIDS = [f"grids/table{number}.yaml" for number in ("3", "6", "7b")]


def test_nothing_is_lost_whatever_happens(cluster, tmp_path, capsys):
    folder = tmp_path / "project"
    with capsys.disabled(), chaos.project(folder, longer=2):
        disturbed, status, lost = chaos.run(folder, GRIDS, "chaos", seed=0)
        assert len(chaos.metrics_of(folder, chaos.INLINE)) == 13
    assert len(disturbed.done) == 10
    assert " failed: disk full" in status
    assert "make room in the folders of results and scratch, then: harness retry chaos --class 'disk full'" in status
    assert not lost
