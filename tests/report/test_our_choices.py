"""Our choices: each is shown where a run of the study depends on it, and nowhere else."""

from dataclasses import replace
from pathlib import Path

import pytest
from support import synthetic_study as synthetic

from harness.report.rendering.our_choices import CHOICES, fixed_choices
from harness.report.rendering.page import make_report


def test_settings_are_named_where_a_run_uses_them(tmp_path: Path) -> None:
    tables = [synthetic.table_of("table2")]
    page = make_report(synthetic.new_store(tmp_path), tables, tmp_path).read_text("utf-8")
    for key in ("gap", "epsilon", "offdiagonal", "normalization"):
        assert f"regularizer.{key}" in page
    table = synthetic.table_of("convergence")
    alone = replace(table, cells=tuple(cell for cell in table.cells if not cell.runs[0].train.regularizer))
    page = make_report(synthetic.new_store(tmp_path), [alone], tmp_path).read_text("utf-8")
    assert "Our readings" not in page


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convergence", {"Numbers of blocks": "2 trainings", "The default block of a small network": "2 trainings"}),
        (
            "table3",
            {
                "Several blocks": "2 trainings",
                "Numbers of blocks": "10 trainings",
                "The default block of a small network": "2 trainings",
            },
        ),
        (
            "table6",
            {
                "Numbers of blocks": "2 trainings",
                "The default block of a small network": "2 trainings",
                "Training with REPA": "2 trainings",
                "REPA’s block": "2 trainings",
                "Guidance of REPA’s samples": "2 trainings",
            },
        ),
        (
            "table7a",
            {
                "Numbers of blocks": "6 trainings",
                "The default block of a small network": "6 trainings",
                "λ, τ and block with MeanFlow": "6 trainings",
            },
        ),
        (
            "table7b",
            {
                "Numbers of blocks": "2 trainings",
                "The default block of a small network": "2 trainings",
                "λ, τ and block with MeanFlow": "2 trainings",
                "Sizes of the steps in shortcut models": "2 trainings",
                "Averages and weight decay in shortcut models": "2 trainings",
                "Labels and scale in IMM": "2 trainings",
                "The network of iCT": "2 trainings",
                "Dropout in iCT": "2 trainings",
            },
        ),
        (
            "table2",
            {
                "Means for sums in the covariance loss": "6 trainings",
                "Pairs of a contrastive loss": "16 trainings",
                "j ≠ i in the contrastive hinge": "4 trainings",
                "Distance of the hinge": "6 trainings",
                "Numbers of blocks": "24 trainings",
                "The default block of a small network": "24 trainings",
                "Labels of the two views": "16 trainings",
                "Denoising on the first view only": "16 trainings",
                "Restricted noise": "8 trainings",
                "λ and τ of contrastive losses": "16 trainings",
                "λ and τ of the other dispersive losses": "6 trainings",
            },
        ),
    ],
)
def test_fixed_choices_are_shown_for_the_runs_that_depend_on_them(
    tmp_path: Path, name: str, expected: dict[str, str]
) -> None:
    """Counted by hand: two seeds; Table 2 has four losses with two contrastive forms and a dispersive one each.

    Of Table 7a's four dispersive runs two are one training at two of its epochs.
    """
    table = synthetic.table_of(name)
    choices = {choice.subject: choice for choice in fixed_choices(table.runs)}
    assert {subject: choice.runs for subject, choice in choices.items()} == expected
    page = make_report(synthetic.new_store(tmp_path), [table], tmp_path).read_text("utf-8")
    subjects = [choice["subject"] for choice in CHOICES["fixed"]]
    shown = [subject for subject in subjects if f"<dt>{subject}</dt>" in page]
    assert shown == [subject for subject in subjects if subject in expected]
    assert all(choice.sentence in page for choice in choices.values())


def test_the_papers_own_scale_has_its_own_choices() -> None:
    """One seed of each: Table 5's SDE and ODE have 249 intervals; MeanFlow has none, and no block is rounded."""
    five, seven = (fixed_choices(synthetic.table_of(name, "imagenet256").runs) for name in ("table5", "table7a"))
    blocks, bf16 = "Numbers of blocks", "Precision of training"
    assert {c.subject: c.runs for c in five} == {blocks: "1 training", "250 steps": "2 trainings", bf16: "2 trainings"}
    subjects = {blocks: "3 trainings", "λ, τ and block with MeanFlow": "3 trainings", bf16: "6 trainings"}
    assert {c.subject: c.runs for c in seven} == subjects


def test_a_share_of_samples_is_named_where_it_is_not_the_authors() -> None:
    sentences = {
        scale: next(
            c.sentence for c in fixed_choices(synthetic.table_of("table7b", scale).runs) if "Sizes" in c.subject
        )
        for scale in ("digits", "imagenet256")
    }
    assert sentences["digits"].endswith("Here bootstrap_every is 4 instead of 8.")
    assert "instead of" not in sentences["imagenet256"]


def test_every_choice_bears_on_some_run_of_the_grids_and_on_others_not() -> None:
    tables = [synthetic.table_of(path.stem, "smoke") for path in sorted(synthetic.GRIDS.glob("*.yaml"))]
    tables += [synthetic.table_of("table2", "smoke", "model=DiT-B/2"), synthetic.table_of("table2", "imagenet256")]
    shown = {choice.subject for table in tables for choice in fixed_choices(table.runs)}
    assert shown == {choice["subject"] for choice in CHOICES["fixed"]}
    assert fixed_choices([run for table in tables for run in table.runs if not run.train.regularizer][:1]) == []
    names = [choice["id"] for choice in CHOICES["fixed"]]
    assert len(names) == len(set(names))
