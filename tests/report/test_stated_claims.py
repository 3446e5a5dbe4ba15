"""Claims of a grid: stated before their results or found after, tested once, in one Holm family."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from support import synthetic_study as synthetic

from harness.config.grid import Table, load_table
from harness.errors import UserError
from harness.report.analysis.text import in_words
from harness.report.rendering.page import make_report
from harness.store.records import Attempt, Environment, StatedClaim
from harness.store.store import Store

GRID = (
    synthetic.DECAYS
    + """    slow: {ema: 0.98}
    still: {ema: 0.99}
vary:
  - product: {decay: [fast, slow, still]}
claims:
  - {says: Slower is better., at: {decay: slow}, direction: lower}
  - {says: Stillness is worse than slowness., at: {decay: still}, against: {decay: slow}, direction: higher}
  - {says: Recall falls., at: {decay: slow}, metric: recall, direction: lower, test: sign-flip}
"""
)
FID = {"fast": [4.0, 5.0, 6.0], "slow": [3.0, 4.1, 5.2], "still": [4.5, 4.0, 6.0]}


def stated(folder: Path, store: Store, text: str, time: str) -> Table:
    """What `harness run` records of a grid before its runs begin."""
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    table = load_table(folder / "mine.yaml", "digits", ["seeds=[0,1,2]"])
    claims = [StatedClaim(claim=claim.words, stated=time, commit="c0ffee") for claim in table.tested_claims]
    store.record_grid(table.name, folder / "mine.yaml", "digits", ["seeds=[0,1,2]"], None, claims)
    return table


def found(folder: Path, store: Store, table: Table) -> dict[str, dict]:
    out = make_report(store, [table], folder / "out").parent
    record = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert all(row["says"] in (out / "summary.md").read_text(encoding="utf-8") for row in record["stated_claims"])
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("found after (2026") == sum(row["when"] == "found after" for row in record["stated_claims"])
    return {row["says"]: row for row in record["stated_claims"]} | {"withdrawn": record["withdrawn_claims"]}


def one_sided(ours: list[float], base: list[float], direction: int) -> float:
    """Student's t of the ratio of means, its error to first order."""
    y, x = np.array(ours), np.array(base)
    ratio = y.mean() / x.mean()
    error = np.std(y - ratio * x, ddof=1) / np.sqrt(len(x)) / x.mean()
    return float(scipy.stats.t.sf(direction * (ratio - 1) / error, len(x) - 1))


def test_a_claim_is_stated_before_its_result_or_found_after_and_an_edited_one_is_another(tmp_path: Path) -> None:
    store = synthetic.new_store(tmp_path)
    table = stated(tmp_path, store, GRID, "2026-01-01T00:00:00+00:00")
    rows = found(tmp_path, store, table)
    assert {rows[claim.claim.says]["when"] for claim in table.tested_claims} == {"no result yet"}
    synthetic.write_values(store, table, {name: dict(enumerate(values)) for name, values in FID.items()})
    for run in table.runs:
        began = Attempt(start=f"2026-01-0{2 + run.seed}T00:00:00+00:00")
        Environment(attempts=[began]).write(store.run_folder(run.train_id))
    stated(tmp_path, store, GRID, "2026-01-09T00:00:00+00:00")  # run again: nothing is forgotten, nothing is new
    rows = found(tmp_path, store, table)
    first, second = rows["Slower is better."], rows["Stillness is worse than slowness."]
    assert (first["when"], first["stated"]) == ("stated before", "2026-01-01T00:00:00+00:00")
    p = [one_sided(FID["slow"], FID["fast"], -1), one_sided(FID["still"], FID["slow"], 1)]
    assert [first["p"], second["p"]] == pytest.approx(p, rel=1e-9)
    third = rows["Recall falls."]["p"]
    family = sorted([*p, third])
    place = family.index(p[0])
    assert first["adjusted"] == pytest.approx(max((3 - i) * family[i] for i in range(place + 1)), rel=1e-9)
    assert third >= 1 / 8  # of three seeds no choice of signs is rarer in one direction

    holding = [row["says"] for row in rows.values() if row and row["verdict"] == "holds"]
    answer = (tmp_path / "out" / "index.html").read_text(encoding="utf-8").partition('<section id="answer">')[2]
    verdict = answer.partition('<p class="verdict">')[2].partition("</p>")[0]
    assert verdict.startswith(f"Of 3 tested claims, {in_words(len(holding))} ")
    assert ("Holds: " + " ".join(holding) in answer) == bool(holding)
    assert "Not shown: " in answer

    edited = GRID.replace("at: {decay: slow}, direction: lower", "at: {decay: slow}, direction: higher")
    rows = found(tmp_path, store, stated(tmp_path, store, edited, "2026-01-03T00:00:00+00:00"))
    assert (rows["Slower is better."]["when"], second["when"]) == ("found after", "stated before")
    assert rows["withdrawn"] == ["Slower is better."]
    assert rows["Slower is better."]["p"] == pytest.approx(1 - p[0], rel=1e-9)


def test_what_a_label_stands_for_is_part_of_a_claim(tmp_path: Path) -> None:
    store = synthetic.new_store(tmp_path)
    texts = GRID, GRID.replace("slow: {ema: 0.98}", "slow: {ema: 0.985}")
    one, other = (stated(tmp_path, store, text, "2026").tested_claims for text in texts)
    assert [a.words == b.words for a, b in zip(one, other, strict=True)] == [False, False, False]
    more = load_table(tmp_path / "mine.yaml", "digits", ["seeds=[3,4]"]).tested_claims
    assert [claim.words for claim in more] == [claim.words for claim in other]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("at: {decay: slow}, direction", "at: {decay: slwo}, direction", "axis 'decay' has no label 'slwo'"),
        ("at: {decay: slow}, direction: lower", "at: {decay: slow}", "needs at and direction"),
        (
            "at: {decay: slow}, direction",
            "at: {decay: fast}, direction",
            "claims.0.against: it is compared with itself",
        ),
        ("test: sign-flip", "test: guess", "'guess' is not legal"),
    ],
)
def test_a_claim_that_cannot_be_tested_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        stated(tmp_path, synthetic.new_store(tmp_path), GRID.replace(old, new), "2026")
    assert message in str(error.value)
    assert "mine.yaml:1" in str(error.value)
    assert "\n" not in str(error.value)
