"""What holds of the paper, cell by cell."""

from pathlib import Path
from typing import get_args

from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of, pivots_of

from harness.report.analysis.claims import SILENT, VERDICTS, summary_sentences
from harness.report.analysis.pivot import Verdict
from harness.report.analysis.table_result import TableResult
from harness.report.rendering.markdown import markdown_summary
from harness.report.rendering.sheet import table_layout
from harness.report.rendering.study_summary import study_summary


def test_each_claim_is_judged_by_its_sign_and_interval(tmp_path: Path) -> None:
    """The paper's changes in Table 3 are all negative."""
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    values = {
        "none": {0: 5.0, 1: 5.0},
        "1 of 12": {0: 4.0, 1: 4.1},  # t = 19 with one degree of freedom, p = 0.033
        "3 of 12 (default)": {0: 6.0, 1: 6.001},  # p < 0.001
        "7 of 12": {0: 4.0, 1: 4.5},  # t = 3, p = 0.2
        "12 of 12": {0: 4.0},
    }
    for label, by_seed in values.items():
        for run in synthetic.cell_of(table, label).runs:
            if run.seed in by_seed:
                synthetic.write_measurement(store, run, by_seed[run.seed])
    laid_out = pivot_of(store, table)
    verdicts = {cell.row: cell.verdict for cell in laid_out.cells if cell.verdict}
    assert verdicts == {
        "1 of 12": "same sign",
        "3 of 12 (default)": "contradicts",
        "7 of 12": "zero within interval",
        "12 of 12": "with one seed",
        "all": "without value",
    }
    sentences = summary_sentences([laid_out])
    assert sentences[0] == (
        "With the paper’s default loss (InfoNCE-ℓ2, its block, λ and τ) FID of SiT-B/2 goes from 5.00 to 6.00, "
        "+20.0\u202f% [+19.9,\u00a0+20.1]* over 2 seeds; in the paper it moves by −11.35\u202f%."
    )
    assert sentences[1] == (
        "The paper claims that a dispersive loss improves on the baseline, and we know its numbers for 5 arms of this "
        "study. Here the 95% interval of the change is on the better side of zero in one, on the worse side in one, "
        "and on neither in three."
    )
    each_once = "for 5 different arms, each counted once: one better in both and one worse here, better in the paper."
    assert sentences[2].endswith(each_once)
    assert sentences[3] == "Of these, one of two survives Holm’s correction over the cells of its table."
    silent = "1 whose interval contains zero, 1 with one seed and 1 without a value"
    assert sentences[4] == f"The others say neither: {silent}."
    assert sentences[5] == "Of 12 measurements, 3 give no value: 3 not run."
    assert sentences[6].startswith("Not in this study: Table 2, Table 4, Figure 4, Table 5")
    fewer = pivots_of(store, [synthetic.table_of("table3", "digits", "seeds=[0]")])[0]
    both = summary_sentences([fewer, laid_out])  # what tables share is counted once, where it has most seeds
    assert both[:2] == sentences[:2]
    assert both[2] == sentences[2]


def test_values_of_another_protocol_make_no_claim(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table3")
    synthetic.full_study(store, [table])
    for label, seeds in (("all", (0, 1)), ("7 of 12", (1,))):
        for run in synthetic.cell_of(table, label).runs:
            if run.seed in seeds:
                synthetic.write_measurement(store, run, 4.0, {"generated": 500})
    claims = {cell.row: cell.verdict for cell in pivot_of(store, table).cells if cell.verdict}
    assert [row for row, verdict in claims.items() if verdict == "protocol differs"] == ["7 of 12", "all"]


def test_a_scale_without_meaning_claims_nothing(tmp_path: Path) -> None:
    store, table = synthetic.new_store(tmp_path), synthetic.table_of("table2", "smoke")
    synthetic.full_study(store, [table])
    laid_out = pivot_of(store, table)
    result = TableResult(laid_out)
    assert result.judged == result.tested == []
    assert "mean nothing" in summary_sentences([laid_out])[0]
    summary = markdown_summary(study_summary("study", [laid_out]), [table_layout(result)])
    assert not any(verdict in summary for verdict in VERDICTS)


def test_every_verdict_has_its_meaning() -> None:
    assert set(VERDICTS) == set(get_args(Verdict))
    assert set(SILENT) < set(VERDICTS)
