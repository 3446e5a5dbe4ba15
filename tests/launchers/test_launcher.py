"""The launcher that docs/launchers.md writes sends a training once, ends it when told, and makes it in the end."""

import json
import re

import pytest
import yaml
from click.testing import CliRunner
from support.places import GRIDS, ROOT
from support.real_slurm import wait_for

from harness import plugins
from harness.cli import cli
from harness.store.records import Submission

pytestmark = pytest.mark.slow


@pytest.fixture
def harness(tmp_path, scratch, monkeypatch):
    """Call the harness with that launcher, for a grid of one short training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_FILES", {})
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "launchers.md").read_text(), re.DOTALL)[1]
    (tmp_path / "processes.py").write_text(code)
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "detached.yaml").write_text("executor: processes\nnice: 5\n")
    content = yaml.safe_load((GRIDS / "convergence.yaml").read_text())
    content |= {"vary": [{"product": {"epochs": ["20"], "arm": ["baseline"]}}], "paper": []}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(content))

    def call(command: str, *words: str) -> str:
        result = CliRunner().invoke(cli, [command, *words, "--plugin", "processes.py"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def test_a_training_is_sent_once_is_ended_goes_on_and_is_done(harness, tmp_path):
    submit = ("submit", "one.yaml", "--scale", "smoke", "--study", "mine", "--profile", "detached")

    def status() -> dict:
        (training,) = json.loads(harness("status", "mine", "--json"))["trainings"]
        return training

    assert "python" in harness(*submit, "--dry-run")
    assert not (tmp_path / "scratch" / "mine").exists()
    assert "Submitted 1 trainings" in harness(*submit)
    (record,) = [Submission.read(path.parent) for path in tmp_path.glob("scratch/mine/*/submission.json")]
    assert "1 trainings are in the queue already" in harness(*submit)
    assert (status()["state"], status()["slurm"]["job"]) == ("starting", record.job)
    assert "Ended 1 jobs" in harness("cancel", "mine", "--yes")
    wait_for(lambda: status()["state"] == "failed")
    assert status()["slurm"]["class"] == "cancelled"
    assert "Submitted 1 trainings" in harness(*submit)
    wait_for(lambda: status()["state"] == "done")
    assert "done" in harness("logs", status()["train_id"])
    # Who has not its file is told so, and takes it neither for done nor for killed.
    evaluation = next(tmp_path.glob("results/mine/*/evals/*.json"))
    evaluation.unlink()
    plugins._FILES.clear()
    result = CliRunner().invoke(cli, ["status", "mine"], catch_exceptions=False)
    assert "it was sent, and processes does not answer" in " ".join(result.stdout.split())
