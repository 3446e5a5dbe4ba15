"""What the tests of grids share."""

import shutil

import pytest
from support.places import GRIDS


@pytest.fixture
def grids(tmp_path):
    shutil.copytree(GRIDS, tmp_path / "grids")
    return tmp_path / "grids"
