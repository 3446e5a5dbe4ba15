"""Numbers and counts in words."""

import pytest

from harness.report.analysis.statistics import Change, Interval
from harness.report.analysis.text import (
    counted,
    interval_words,
    is_number,
    listed,
    number,
    p_words,
    percent_change,
    sentences,
    share,
    signed_percent,
    slug,
)


def test_numbers_have_true_minus_signs_and_no_breaks() -> None:
    assert (number(-0.456, 2), number(3.0, 0)) == ("−0.46", "3")
    assert signed_percent(-11.42) == "−11.4\u202f%"
    assert signed_percent(0.04) == signed_percent(-0.04) == "0.0\u202f%"
    assert (p_words(0.0312), p_words(0.0002), p_words(None)) == ("0.031", "<\u00a00.001", "")


def test_intervals_have_decimals_where_these_say_something() -> None:
    assert interval_words(Interval(-14.04, -8.8)) == "[−14.0,\u00a0−8.8]"
    assert interval_words(Interval(-68.2, 62.4)) == "[−68,\u00a0+62]"
    assert interval_words(Interval(-0.0401, -0.0019), 3) == "[−0.040,\u00a0−0.002]"


def test_a_change_has_a_star_where_it_survives_and_brackets_where_it_has_an_interval() -> None:
    change = Change(-11.4, None, (0, 1), True, Interval(-14.0, -8.8), p=0.01, adjusted=0.04)
    assert percent_change(change) == "−11.4\u202f% [−14.0,\u00a0−8.8]*"
    assert percent_change(Change(-11.4, None, (0,), True)) == "−11.4\u202f%"


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 1, "not the one"), (1, 1, "the one"), (2, 2, "both"), (0, 4, "none of four"), (2, 4, "two of four"),
     (4, 4, "all four"), (3, 20, "three of 20")],
)  # fmt: skip
def test_shares_are_words(part: int, whole: int, words: str) -> None:
    assert share(part, whole) == words


def test_counts_and_lists() -> None:
    assert (counted(1, "run"), counted(2000, "run"), counted(2, "class")) == ("1 run", "2,000 runs", "2 classes")
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert (slug("table 7a"), is_number("1e-3"), is_number("all")) == ("table-7a", True, False)


def test_a_template_gives_each_of_its_sentences_on_one_line_and_none_where_nothing_is_to_say() -> None:
    assert sentences("tests.j2", tested=0, smallest=[]) == []
    first, second = sentences("tests.j2", tested=2, smallest=["0.250 with 3 seeds", "0.125 with 4 seeds"])
    assert "corrected for the 2 changes of this table, and claims" in first
    assert "cannot give less than 0.250 with 3 seeds and 0.125 with 4 seeds, so" in second
    assert "\n" not in first + second
