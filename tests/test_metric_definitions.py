"""The metrics' definitions are the page of documentation, and names carry their features."""

from support.places import ROOT

from harness.metric_definitions import (
    DEFINITIONS,
    MEASURED,
    OF_OTHER_FEATURES,
    definition_of,
    markdown,
    spread_of,
    with_features,
)


def test_committed_page_is_the_table_of_definitions() -> None:
    page = ROOT / "docs" / "metrics.md"
    assert page.read_text() == markdown(), "make it again: python -m harness.metric_definitions > docs/metrics.md"


def test_names_carry_their_features_and_have_definitions() -> None:
    assert with_features("fid", "vit") == "fd:vit"
    assert with_features("precision", "vit") == "precision:vit"
    assert definition_of("cmmd:classifier").title == "CMMD (classifier)"
    assert definition_of("something").title == "something"
    assert (spread_of("kd:vit"), spread_of("kid"), spread_of("fid")) == ("kd_std:vit", "kid_std", "")
    assert definition_of("kd:vit").title == "KD (vit)"
    assert definition_of("kd:vit").direction == "lower"
    assert {OF_OTHER_FEATURES.get(name, name) for name in MEASURED} <= DEFINITIONS.keys()
