"""What the tests of networks share."""

import pytest
from support.public_checkpoints import golden_specs


@pytest.fixture(scope="session")
def specs(tmp_path_factory):
    return golden_specs(tmp_path_factory.mktemp("scales"))
