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
from harness.report.comparison import VERDICTS, DifferenceVerdict, compare, counts, differing, summary
from harness.store.records import EncoderRecord, ModelFacts
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
    said = summary(compare(first, second))
    total = len(table.cells)
    assert said.startswith(f"{total - 2} of {total} cells that both studies have are compared; 1 not: ")
    assert "1 not: generated 1000 and 500" in said


def test_other_features_and_other_encoders_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(synthetic.GRIDS.parent)
    first, table = synthetic.new_store(tmp_path, "first"), synthetic.table_of("table6")
    second = synthetic.new_store(tmp_path, "second")
    for store, features in ((first, "classifier-digits-aaaaaaaaaaaa"), (second, "classifier-digits-bbbbbbbbbbbb")):
        synthetic.full_study(store, [table])
        for run in table.runs:
            synthetic.write_measurement(store, run, 1.0, {"features": features})
    said = "features classifier-digits-aaaaaaaaaaaa and classifier-digits-bbbbbbbbbbbb"
    assert summary(compare(first, second)).startswith(f"0 of {len(table.cells)} cells that both studies have are comp")
    assert said in summary(compare(first, second))
    words = ["report", "--compare", "first", "second", "--results", str(first.results), "--reports", str(tmp_path)]
    output = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert output.splitlines()[0] == summary(compare(first, second))
    assert said in (tmp_path / "first-and-second" / "index.html").read_text(encoding="utf-8")
    for store, letter in ((first, "a"), (second, "b")):
        for run in table.runs:
            synthetic.write_measurement(store, run, 1.0)
            if run.train.alignment:
                encoder = EncoderRecord(name="own-vit", parameters=1, sha256=letter * 64)
                ModelFacts(parameters=1, encoder=encoder).write(store.run_folder(run.train_id))
    reason = f"encoder {'a' * 12} and {'b' * 12}"
    aligned = {cell.cell for cell in compare(first, second)[0].cells if cell.reason == reason}
    assert len(aligned) == len({run.at for run in table.runs if run.train.alignment}) > 0


@pytest.mark.parametrize("words", [[], ["one", "--compare", "one", "two"]])
def test_a_report_is_of_one_study_or_compares_two(words: list[str]) -> None:
    with pytest.raises(UserError, match="STUDY or --compare A B is expected"):
        CliRunner().invoke(cli, ["report", *words], catch_exceptions=False)


def test_every_verdict_of_a_comparison_has_its_meaning() -> None:
    assert set(VERDICTS) == set(get_args(DifferenceVerdict))
