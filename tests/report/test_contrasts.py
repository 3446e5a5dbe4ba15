"""Rivals and sums: which rows are sums, and every number of the section against NumPy and scipy."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from support.probed_study import write_probe
from support.synthetic_study import cell_of, new_store, pivot_of, table_of, write_measurement

from harness.report.analysis.answer import answer
from harness.report.analysis.text import in_words
from harness.report.figures.style import ArmStyles
from harness.report.rivals.contrasts import contrasts, parts_of
from harness.report.rivals.rival_section import rival_sections, rivals_answer
from harness.store.store import Store

SEEDS = 5


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    """FID by row: REPA helps, Dispersive harms, the others' seeds cannot tell; a sum with SRA beats both its parts."""
    table, random = table_of("table8", "digits", f"seeds={list(range(SEEDS))}"), np.random.default_rng(8)
    shift = {"REPA": -1.0, "Dispersive": 0.8, "Dispersive + SRA": -0.6, "Dispersive + SRA 2": 0.9}
    base = 4 + 0.2 * random.normal(size=SEEDS)
    return {
        (row := cell.label("method")): base + shift.get(row, 0.0) + 0.05 * random.normal(size=SEEDS)
        for cell in table.cells
    }


@pytest.fixture(scope="module")
def store(values: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Store:
    store, table = new_store(tmp_path_factory.mktemp("rivals")), rivals_table()
    for cell in table.cells:
        for run, value in zip(cell.runs, values[cell.label("method")], strict=True):
            write_measurement(store, run, float(value))
    for row, distance in (("none", 2.0), ("Dispersive", 5.0)):
        for run in cell_of(table, row).runs:
            write_probe(store, run, distance * (1 + 0.1 * run.seed))
    return store


def rivals_table():
    return table_of("table8", "digits", f"seeds={list(range(SEEDS))}")


def test_a_sum_is_the_row_that_changes_what_two_others_change() -> None:
    """The labels say it: "A + B" is the sum of A and B, and no other row of any table is one."""
    for name in ("table6", "table8"):
        laid_out = pivot_of(Store(Path("nowhere"), Path("nowhere"), "none"), table_of(name))
        for cell in laid_out.cells:
            labels = cell.name.split(" + ") if name == "table8" and " + " in cell.name else []
            assert sorted(part.name for part in parts_of(cell, laid_out.cells)) == sorted(labels), cell.name


def paired(ours: np.ndarray, base: np.ndarray) -> tuple[float, float, float]:
    """Change in percent, half its 95 % interval, and p, of ratios of means over seeds."""
    ratio = ours.mean() / base.mean()
    error = scipy.stats.sem(ours - ratio * base) / base.mean()
    p = 2 * scipy.stats.t.sf(abs(ratio - 1) / error, len(ours) - 1)
    return 100 * (ratio - 1), 100 * error * scipy.stats.t.ppf(0.975, len(ours) - 1), p


def test_every_change_and_the_one_family_are_those_of_scipy(store: Store, values: dict[str, np.ndarray]) -> None:
    compared = contrasts(pivot_of(store, rivals_table()))
    assert compared
    rows = {(c.cell.name, c.against.name): c.change for c in compared.family}
    sums = [row for row in values if " + " in row]
    better = {row: min(row.split(" + "), key=lambda part: values[part].mean()) for row in sums}
    assert set(rows) == {(row, "none") for row in values if row != "none"} | set(better.items())
    expected = {pair: paired(values[pair[0]], values[pair[1]]) for pair in rows}
    ordered = sorted(expected, key=lambda pair: expected[pair][2])
    steps = [min(1.0, (len(ordered) - place) * expected[pair][2]) for place, pair in enumerate(ordered)]
    adjusted = dict(zip(ordered, np.maximum.accumulate(steps), strict=True))
    for pair, (percent, half, p) in expected.items():
        change = rows[pair]
        assert change.interval
        found = [change.percent, change.interval.low, change.interval.high, change.p, change.adjusted]
        assert found == pytest.approx([percent, percent - half, percent + half, p, adjusted[pair]], rel=1e-9), pair


def test_the_section_says_what_its_numbers_carry(store: Store, values: dict[str, np.ndarray]) -> None:
    (section,) = rival_sections(store, [pivot_of(store, rivals_table())], ArmStyles())
    percent, half, _ = paired(values["REPA"], values["none"])
    assert f"The best is “REPA”, better by {-percent:.0f} % (95\u00a0%\u00a0interval " in section.findings[0]
    assert f" {-percent - half:.0f} to {-percent + half:.0f})." in section.findings[0]
    told = sum(paired(values[row], values["none"])[2] < 0.05 for row in values if " + " not in row and row != "none")
    alone = sum(" + " not in row for row in values) - 1
    assert section.findings[0].startswith(f"Of {in_words(alone)} methods by themselves ")
    assert f"the seeds cannot tell {in_words(alone - told)}." in section.findings[0]
    part = min(("SRA", "Dispersive"), key=lambda row: values[row].mean())
    assert f"The best is “Dispersive + SRA”, better than “{part}” by " in section.findings[1]
    headings = {group.heading: [row.cell.change.percent for row in group.rows] for group in section.forest.groups}
    assert list(headings) == [*rivals_table().file.blocks, "Sums against the better of their parts"]
    assert all(percents == sorted(percents) for percents in headings.values())
    assert {row: change.percent for row, change in section.spreads.items()} == pytest.approx({"Dispersive": 150.0})
    assert section.cost
    assert "iREPA" in section.cost.alt


def test_a_study_of_this_table_alone_answers_its_question(store: Store) -> None:
    laid_out = pivot_of(store, rivals_table())
    (section,) = rival_sections(store, [laid_out], ArmStyles())
    given = answer([laid_out])
    found = rivals_answer(given, section)
    assert found.question == rivals_table().file.question
    assert [found.verdict, *found.further[:2]] == [*section.findings[:2], given.verdict]
    assert "the paper’s loss makes FID worse" in given.verdict
    assert found.headline == given.headline


def test_without_sums_or_where_numbers_mean_nothing_there_is_no_section(tmp_path: Path) -> None:
    smoke, plain = table_of("table8", "smoke"), table_of("table3")
    for table in (smoke, plain):
        for cell in table.cells:
            write_measurement(new_store(tmp_path), cell.runs[0], 4.0)
    assert (
        rival_sections(new_store(tmp_path), [pivot_of(new_store(tmp_path), t) for t in (smoke, plain)], ArmStyles())
        == []
    )
