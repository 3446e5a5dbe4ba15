"""The section on representations: what is found, and where there is nothing to show."""

import json

import pytest
from support.probed_study import probed_study

from harness.report.analysis.representations import probed_arms, repeatability
from harness.report.rendering.page import make_report
from harness.report.rendering.sections import representations


@pytest.mark.parametrize(("sign", "words"), [(-1, "better, where representations are further apart"),
                                             (1, "worse, where representations are further apart")])  # fmt: skip
def test_findings_are_said(tmp_path, sign, words):
    store, pivots = probed_study(tmp_path, lambda fid: 10 + sign * fid)
    section = representations(store, pivots)
    rows = {correlation.measure: correlation.rho for correlation in section.correlations}
    assert rows["distance"] == pytest.approx(sign)
    assert "norm" not in rows  # the same for all arms: it has no order
    findings = " ".join(section.findings)
    assert words in findings
    assert "features are 1.0 times as large" in findings
    assert repeatability(probed_arms(store, pivots)) == pytest.approx(1)
    assert "digits/test" in next(iter(section.arms[0].seeds.values())).probe.protocol["held_out"]


def test_the_page_shows_it_where_there_is_something_to_show(tmp_path):
    store, pivots = probed_study(tmp_path, lambda fid: fid)
    tables = [p.table for p in pivots]
    pages = [make_report(store, tables, tmp_path / name).read_text() for name in ("one", "two")]
    assert pages[0] == pages[1]
    assert 'id="representations"' in pages[0]
    assert "figures/representations.svg" in pages[0]
    record = json.loads((tmp_path / "one" / "representations.json").read_text())
    first, arms_ = record["correlations"][0], record["arms"]
    assert (first["measure"], first["arms"]) == ("distance", len(arms_))
    assert [first[key] for key in ("rho", "low", "high")] == pytest.approx([1, 1, 1])
    assert arms_[0]["fid"] == pytest.approx(5.0)
    for path in store.root.glob("*/probe-*.json"):
        path.unlink()
    assert 'id="representations"' not in make_report(store, tables, tmp_path / "three").read_text()
