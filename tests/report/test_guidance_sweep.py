"""Guidance against the dispersive loss, on synthetic runs whose answers are known."""

from pathlib import Path

import pytest
from support import synthetic_study as synthetic
from support.swept_studies import guided
from support.synthetic_study import pivot_of

from harness.report.analysis.guidance_sweep import Effect, sweeps
from harness.report.analysis.statistics import Interval
from harness.report.analysis.text import sentences
from harness.report.figures.style import ArmStyles
from harness.report.figures.sweeps import guidance_picture


@pytest.mark.parametrize(
    ("loss_costs", "shared", "words"),
    [
        (0.05, 0.05, "together less than the sum of the two: they spend the same diversity"),
        (0.05, 0.0, "these seeds neither show that they spend the same diversity nor exclude it"),
        (-0.05, 0.0, "The loss adds recall where guidance spends it"),
        (0.0, 0.0, "the loss is not seen to"),
    ],
)
def test_whose_diversity_is_spent_follows_the_numbers(
    tmp_path: Path, loss_costs: float, shared: float, words: str
) -> None:
    (sweep,) = sweeps([pivot_of(*guided(tmp_path, loss_costs, shared))])
    sentences = " ".join(sweep.sentences)
    assert words in sentences
    assert sentences.count("is best at guidance 2 ") == 2
    assert "Nothing is said of coverage, which is not stored for both arms." in sentences


def test_the_gain_is_compared_without_guidance_and_at_the_best_scale(tmp_path: Path) -> None:
    (sweep,) = sweeps([pivot_of(*guided(tmp_path, 0.0, 0.0))])
    moved = next(sentence for sentence in sweep.sentences if sentence.startswith("Its change"))
    assert "−10." in moved or "−9." in moved
    assert moved.endswith("points, upwards.")
    assert "recall" in guidance_picture(sweep, ArmStyles()).svg


def test_what_the_seeds_cannot_tell_has_no_verdict() -> None:
    def verdict(loss: Effect, guidance: Effect, beside: Effect) -> str:
        effects = {"metric": "recall", "loss": loss, "guidance": guidance, "beside": beside}
        (sentence,) = sentences("shared_diversity.j2", effects=effects)
        return sentence

    sure, unsure = Effect(-0.1, Interval(-0.2, -0.05)), Effect(-0.1, Interval(-0.3, 0.1))
    assert "not seen to cost recall" in verdict(sure, unsure, unsure)
    assert "not seen to" in verdict(unsure, sure, unsure)
    assert "neither show" in verdict(sure, sure, unsure)
    assert "more than the sum" in verdict(sure, sure, sure)
    assert verdict(Effect(-0.1, None), Effect(-0.1, None), Effect(0, None)).startswith("With one seed")


def test_the_sweep_trains_nothing_of_its_own() -> None:
    """Not even at the paper's own scale: its trainings are those of Table 2."""
    for scale in ("smoke", "digits", "cifar10", "imagenet256"):
        trained = {run.train_id for run in synthetic.table_of("table2", scale).runs}
        assert {run.train_id for run in synthetic.table_of("guidance", scale).runs} <= trained
