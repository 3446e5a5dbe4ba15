"""The first screen: a question, an answer that follows its numbers, and what stands there where there is none."""

from pathlib import Path

import pytest
from support import synthetic_study as synthetic
from support.synthetic_study import pivots_of, write_values

from harness.report.analysis.answer import MOST_ROWS, QUESTION, StudyAnswer, answer
from harness.report.figures.forest import forest

DEFAULT = "3 of 12 (default)"


def answer_of(folder: Path, values: dict[str, dict[int, float]], *overrides: str) -> StudyAnswer:
    """The answer of Table 3 with these FIDs by block and seed."""
    store, table = synthetic.new_store(folder), synthetic.table_of("table3", "digits", *overrides)
    write_values(store, table, values)
    return answer(pivots_of(store, [table]))


@pytest.mark.parametrize(
    ("base", "ours", "verdict"),
    [
        # d = y − 1.2 x is −0.02 and 0.02: t = 12.706 of one degree, its error 0.02 / 5.1 of the mean.
        ({0: 5.0, 1: 5.2}, {0: 5.98, 1: 6.26}, "makes FID worse by 20 % (95 % interval 15 to 25), two seeds"),
        ({0: 5.0, 1: 5.2}, {0: 4.02, 1: 4.14}, "makes FID better by 20 % (95 % interval 15 to 25), two seeds"),
        ({0: 5.0, 1: 5.0}, {0: 5.0, 1: 5.1}, "is not shown to change FID: +1.0 % [−12, +14], two seeds"),
        ({0: 5.0, 1: 5.0}, {0: 5.0, 1: 9.0}, "is not shown to change FID: +40.0 % (two seeds cannot tell)"),
        ({0: 5.0}, {0: 6.0}, "makes FID worse by 20 %, but one seed cannot tell this from chance"),
        ({0: 5.0, 1: 5.0}, {0: 5.0, 1: 5.0}, "leaves FID as it is"),
    ],
)
def test_the_verdict_says_the_direction_in_a_word(
    base: dict[int, float], ours: dict[int, float], verdict: str, tmp_path: Path
) -> None:
    made = answer_of(tmp_path, {"none": base, DEFAULT: ours})
    assert made.question == QUESTION
    words = made.verdict.replace("\u202f", " ").replace("\u00a0", " ")
    assert words == f"Here the paper’s loss {verdict}; in the paper it is better by 11 %."


def test_what_the_words_mean_and_what_is_missing_follow(tmp_path: Path) -> None:
    made = answer_of(tmp_path, {"none": {0: 5.0, 1: 5.0}, DEFAULT: {0: 6.0, 1: 6.0}})
    gloss, missing = made.further
    assert gloss == (
        "FID: distance to real images, lower is better. Here it is 5.00 without and 6.00 with the loss; "
        "in the paper, on ImageNet, 36.49 and 32.35."
    )
    assert missing == "So far 4 of 12 measurements have a value: 8 not run."
    assert made.limits[0].startswith("A toy")
    assert "not even by its sign" in made.limits[0]


def test_without_the_paper_s_loss_the_best_arm_answers_the_table_s_question(tmp_path: Path) -> None:
    values = {"none": {0: 5.0, 1: 5.2}, "all": {0: 4.02, 1: 4.14}, "1 of 12": {0: 6.0, 1: 6.2}}
    made = answer_of(tmp_path, values)
    assert made.question == "Does it matter which block's output is pushed apart?"
    assert made.verdict.startswith("Here “block all”, the best of 2, makes FID better by 20")
    assert (
        made.counts == "2 variants that help in the paper: here one better, one worse, none that the seeds cannot tell."
    )


def test_without_a_change_the_means_are_ranked_or_nothing_is_said(tmp_path: Path) -> None:
    store, rivals = synthetic.new_store(tmp_path), synthetic.table_of("table7b")
    assert answer(pivots_of(store, [rivals])).verdict == "Nothing has been measured yet."
    synthetic.full_study(store, [rivals])
    made = answer(pivots_of(store, [rivals]))
    assert made.verdict.startswith("There is no baseline to compare with; of five, “MeanFlow-XL/2” has the best mean")
    assert (made.headline, made.groups, forest(made)) == (None, [], None)
    lone = answer_of(tmp_path / "lone", {DEFAULT: {0: 6.0}})
    assert lone.verdict == "No change is known yet: a loss and its baseline must both be measured."


def test_a_scale_without_meaning_answers_nothing(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2", "smoke")
    synthetic.full_study(store, [table])
    made = answer(pivots_of(store, [table]))
    assert (made.verdict, made.further) == ("No answer: these numbers only prove that the code runs.", [])
    assert (made.groups, made.counts) == ([], "")


def test_each_arm_is_drawn_once_in_its_fullest_table(tmp_path: Path) -> None:
    """Tables 2 and 3 share the paper's loss, and contrastive losses are not what the paper says helps."""
    store, tables = synthetic.new_store(tmp_path), [synthetic.table_of(name) for name in ("table2", "table3", "table5")]
    synthetic.full_study(store, tables)
    made = answer(pivots_of(store, tables))
    assert [(pivot.table.name, len(cells)) for pivot, cells in made.groups] == [
        ("table2", 4), ("table3", 4), ("table5", 5),
    ]  # fmt: skip
    assert made.counts.startswith("13 variants that help in the paper: here ")
    assert sum(len(cells) for _, cells in made.groups) + made.left_out == 13 <= MOST_ROWS


def test_places_along_the_axis_are_in_the_order_of_the_changes(tmp_path: Path) -> None:
    values = {
        "none": {0: 5.0, 1: 5.2},
        DEFAULT: {0: 5.98, 1: 6.26},
        "all": {0: 4.02, 1: 4.14},
        "1 of 12": {0: 5.0, 1: 9.0},
        "7 of 12": {0: 5.5},
    }
    drawn = forest(answer_of(tmp_path, values))
    assert drawn
    assert (drawn.ends, drawn.paper) == (("← better", "worse →"), True)
    rows = {row.cell.row: row for row in drawn.groups[0].rows}
    better, worse, silent, alone = rows["all"], rows[DEFAULT], rows["1 of 12"], rows["7 of 12"]
    assert 0 < better.low < better.place < better.high < drawn.zero < worse.low < worse.place < worse.high < 100
    assert worse.place - drawn.zero == pytest.approx(drawn.zero - better.place, abs=0.05)  # +20 and −20 percent
    assert (better.kind, worse.kind, silent.kind, alone.kind) == ("better", "worse", "same", "same")
    assert (silent.low, silent.high) == (0, 100)  # cut at the frame, which it does not widen
    assert silent.words.endswith("(two seeds cannot tell)")
    assert (alone.low, alone.words) == (None, "+10 (one seed)")
    assert 0 < worse.paper < drawn.zero
    assert worse.title.startswith(f"Table 3, block {DEFAULT}, FID 6.12: +20 [+15,\u00a0+25] %, two seeds; paper −11.3")
    assert dict(drawn.ticks)["0"] == drawn.zero
