"""Two studies side by side."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from click.testing import CliRunner
from support import synthetic_study as synthetic

from harness.cli import cli
from harness.config.grid import Table
from harness.errors import UserError
from harness.report.comparison import VERDICTS, DifferenceVerdict, compare, counts, differing
from harness.store.store import Store


def shifted_copy(tmp_path: Path) -> tuple[Store, Store, Table]:
    first, table = synthetic.new_store(tmp_path, "first"), synthetic.table_of("table2")
    second = synthetic.new_store(tmp_path, "second")
    synthetic.full_study(first, [table])
    shutil.copytree(first.root, second.root)
    for run in synthetic.cell_of(table, "Hinge", "dispersive").runs:
        path = second.eval_path(run.train_id, run.eval_id)
        content = json.loads(path.read_text(encoding="utf-8"))
        content["metrics"]["fid"] *= 1.1
        path.write_text(json.dumps(content), encoding="utf-8")
    return first, second, table


def test_a_comparison_finds_the_shifted_arm_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(synthetic.GRIDS.parent)
    first, second, table = shifted_copy(tmp_path)
    tables = compare(first, second)
    (difference,) = [cell for _, cell in differing(tables)]
    assert difference.cell == "Hinge · dispersive"
    assert difference.change
    assert difference.change.percent == pytest.approx(10, abs=1e-6)
    assert counts(tables) == {"differs": 1, "equal": len(table.cells) - 1}
    words = ["report", "--compare", "first", "second", "--results", str(first.results), "--reports", str(tmp_path)]
    output = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert output.count("Table 2.") == 1
    frame = pd.read_csv(tmp_path / "first-and-second" / "differences.csv")
    assert frame["cell"][frame["verdict"] == "differs"].tolist() == ["Hinge · dispersive"]
    assert "Hinge · dispersive" in (tmp_path / "first-and-second" / "index.html").read_text(encoding="utf-8")


def test_a_comparison_says_what_it_cannot_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(synthetic.GRIDS.parent)
    first, second, table = shifted_copy(tmp_path)
    gone, other, lone = (
        synthetic.cell_of(table, loss, "dispersive") for loss in ("Hinge", "Covariance", "InfoNCE, ℓ2")
    )
    for run in gone.runs:
        first.eval_path(run.train_id, run.eval_id).unlink()
    for run in other.runs:
        synthetic.write_measurement(second, run, 1.0, {"generated": 500})
    synthetic.write_measurement(second, lone.runs[0], 1.0)
    second.eval_path(lone.runs[1].train_id, lone.runs[1].eval_id).unlink()
    more = synthetic.table_of("table3")
    second.record_grid(more.name, Path("grids/table3.yaml"), "digits", [])
    verdicts = {cell.cell: cell.verdict for cell in compare(first, second)[0].cells if cell.verdict != "equal"}
    assert verdicts == {
        "Hinge · dispersive": "without value",
        "Covariance · dispersive": "protocol differs",
        "InfoNCE, ℓ2 · dispersive": "too few seeds",
    }
    assert {cell.verdict for cell in compare(first, second)[1].cells} == {"only in one"}


@pytest.mark.parametrize("words", [[], ["one", "--compare", "one", "two"]])
def test_a_report_is_of_one_study_or_compares_two(words: list[str]) -> None:
    with pytest.raises(UserError, match="STUDY or --compare A B is expected"):
        CliRunner().invoke(cli, ["report", *words], catch_exceptions=False)


def test_every_verdict_of_a_comparison_has_its_meaning() -> None:
    assert set(VERDICTS) == set(get_args(DifferenceVerdict))
