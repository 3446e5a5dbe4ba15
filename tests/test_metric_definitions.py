"""The metrics' definitions are the page of documentation, and names carry their features."""

from support.places import ROOT

from harness.metric_definitions import (
    DEFINITIONS,
    MEASURED,
    OF_OTHER_FEATURES,
    markdown,
    spread_of,
    title_of,
    with_features,
)
from harness.report.reading.collect import metric_named


def test_committed_page_is_the_table_of_definitions() -> None:
    page = ROOT / "docs" / "metrics.md"
    assert page.read_text() == markdown(), "make it again: python -m harness.metrics > docs/metrics.md"


def test_names_carry_their_features_and_have_definitions() -> None:
    assert with_features("fid", "vit") == "fd:vit"
    assert with_features("precision", "vit") == "precision:vit"
    assert title_of("cmmd:classifier") == "CMMD (classifier)"
    assert title_of("something") == "something"
    assert (spread_of("kd:vit"), spread_of("kid"), spread_of("fid")) == ("kd_std:vit", "kid_std", "")
    assert metric_named("kd:vit").title == "KD (vit)"
    assert metric_named("kd:vit").direction == "lower"
    assert {OF_OTHER_FEATURES.get(name, name) for name in MEASURED} <= DEFINITIONS.keys()
