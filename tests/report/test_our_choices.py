"""Our choices: each is shown where a run of the study depends on it, and nowhere else."""

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
    page = make_report(synthetic.new_store(tmp_path), [synthetic.table_of("convergence")], tmp_path).read_text("utf-8")
    assert "Our readings" not in page


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convergence", {}),
        ("table3", {"Several blocks": "2 trainings"}),
        ("table7a", {"λ, τ and block with MeanFlow": "6 trainings"}),
        (
            "table7b",
            {
                "λ, τ and block with MeanFlow": "2 trainings",
                "Sizes of the steps in shortcut models": "2 trainings",
                "Labels and scale in IMM": "2 trainings",
                "The network of iCT": "2 trainings",
            },
        ),
        (
            "table2",
            {
                "Means for sums in the covariance loss": "6 trainings",
                "Pairs of a contrastive loss": "16 trainings",
                "j ≠ i in the contrastive hinge": "4 trainings",
                "Distance of the hinge": "6 trainings",
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


def test_every_choice_bears_on_some_run_of_the_grids_and_on_others_not() -> None:
    tables = [synthetic.table_of(path.stem, "smoke") for path in sorted(synthetic.GRIDS.glob("*.yaml"))]
    tables.append(synthetic.table_of("table2", "smoke", "model=DiT-B/2"))
    shown = {choice.subject for table in tables for choice in fixed_choices(table.runs)}
    assert shown == {choice["subject"] for choice in CHOICES["fixed"]}
    assert fixed_choices([run for table in tables for run in table.runs if not run.train.regularizer][:1]) == []
    names = [choice["id"] for choice in CHOICES["fixed"]]
    assert len(names) == len(set(names))
