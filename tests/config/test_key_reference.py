"""The list of keys is read off the models that check the files: what it says must be what they do."""

import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from support.places import ROOT

from harness.cli import cli
from harness.config.key_reference import MODELS, keys, markdown
from harness.config.settings.loss_settings import RegularizerSettings
from harness.config.settings.run_settings import Settings

DOCS = ROOT / "docs"


def test_committed_page_is_the_models():
    assert (DOCS / "grid-format.md").read_text() == markdown(), "make it again: make docs"


def test_every_key_says_what_it_means():
    silent = [key.name for model in MODELS.values() for key in keys(model) if not key.meaning]
    assert not silent


def test_limits_are_those_that_are_enforced():
    by_name = {key.name: key for key in keys(Settings)}
    assert by_name["regularizer.group"].legal == "a whole number ≥ 2"
    assert by_name["regularizer.gap"].legal == "a number > 0 and ≤ 1"
    for wrong in ({"group": 1}, {"gap": 0}, {"gap": 1.5}):
        with pytest.raises(ValidationError):
            RegularizerSettings(**wrong)
    RegularizerSettings(group=2, gap=1)
    assert by_name["regularizer.tau"].default == str(RegularizerSettings().tau)


def test_command_lists_by_beginning_and_names_the_nearest():
    shown = CliRunner().invoke(cli, ["keys", "sampler.guidance"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0
    assert "sampler.guidance_to" in shown.output
    assert "regularizer" not in shown.output
    wrong = CliRunner().invoke(cli, ["keys", "regularizer.tua"])
    assert "regularizer.tau" in str(wrong.exception)
