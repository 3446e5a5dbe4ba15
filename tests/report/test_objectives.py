"""The terms of a study's losses: those that it has, with their values; and a plug-in's formula, which others wrote."""

from dataclasses import replace
from pathlib import Path

import pytest
from support import synthetic_study as synthetic

from harness.config.plugin_parts import PluginRecord
from harness.config.spec import TermSpec
from harness.report.rendering.latex import latex_terms
from harness.report.rendering.markdown import markdown_terms
from harness.report.rendering.objectives import FORMULAS, drawing, is_mathematics, study_terms
from harness.report.rendering.study_summary import study_summary


def test_the_terms_are_those_that_the_study_has_with_all_their_values(tmp_path: Path) -> None:
    pivots = synthetic.pivots_of(synthetic.new_store(tmp_path), [synthetic.table_of(n) for n in ("table2", "table3")])
    terms = {term.name: term for term in study_terms(pivots)}
    losses = ("InfoNCE, ℓ2", "InfoNCE, cosine", "Hinge", "Covariance")
    assert set(terms) == {f"{loss}, {kind}" for loss in losses for kind in ("dispersive", "contrastive")}
    default, hinge = terms["InfoNCE, ℓ2, dispersive"], terms["Hinge, dispersive"]
    assert (default.weights, hinge.blocks, hinge.settings) == ("0.5", "2", "group 16; ε 1.0")
    assert default.blocks == "1, 2, 4, 6 and 1+2+3+4+5+6"


def test_every_formula_of_ours_is_drawn_and_what_is_no_mathematics_never_reaches_tex(tmp_path: Path) -> None:
    ours = [formula for kind in ("alignment", "dispersive", "contrastive") for formula in FORMULAS[kind].values()]
    assert all(drawing(formula) for formula in ours)
    hostile = [r"\write18{touch ran}", r"\input{secret}", "x$ \\input y$", "{x", "x%", r"\def\a{b}", "a&b", "x" * 501]
    assert not any(map(is_mathematics, hostile))
    table = synthetic.table_of("table3")
    term = TermSpec.model_validate({"name": "a", "kind": "mine", "lambda": 1, "blocks": [1], "word": "</td>|$x$"})
    runs = [replace(run, train=run.train.model_copy(update={"terms": (term,)})) for run in table.cells[0].runs]
    cells = (replace(table.cells[0], runs=tuple(runs)), *table.cells[1:])
    record = PluginRecord(formulas={"mine": r"\input{secret}|<b>"})
    pivot = synthetic.pivot_of(synthetic.new_store(tmp_path), replace(table, cells=cells, plugins=record))
    summary = study_summary("s", [pivot])
    latex, markdown = latex_terms(summary), markdown_terms(summary)
    assert r"\textbackslash" in latex
    assert [words for words in (r"\input", "$x$") if words in latex] == []
    row = next(line for line in markdown.splitlines() if line.startswith("| mine"))
    assert [words for words in ("<b>", "</td>") if words in row] == []
    assert row.replace(r"\|", "").count("|") == 7


@pytest.mark.parametrize("formula", [r"\log \mathbb{E}_{|t_i - t_j| \le w} \exp(-\|z_i - z_j\|^2 / \tau)"])
def test_a_formula_of_a_plug_in_is_mathematics(formula: str) -> None:
    assert is_mathematics(formula)
    assert drawing(formula)
