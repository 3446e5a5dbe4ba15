"""Tables 3 and 6 on a real SLURM while everything happens; `tests/slurm/chaos.py` does the same to any grids."""

import pytest
from slurm import chaos

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]


def test_nothing_is_lost_whatever_happens(needs, tmp_path, capsys):
    needs("sbatch", "sinfo")
    folder = tmp_path / "project"
    chaos.prepare(folder)
    try:
        chaos.write_scale(folder, "longer", 2)
        done, lost = chaos.run(folder, ["grids/table3.yaml", "grids/table6.yaml"], "longer", seed=0)
        numbers = len(chaos.found(folder, chaos.CALM))
    finally:
        chaos.release(folder)
    with capsys.disabled():
        print("", *done, f"lost: {lost}", sep="\n  ")
    assert len(done) == 9
    assert numbers == 9
    assert not lost
