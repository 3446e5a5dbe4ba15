"""The sections of the page: each table with its pictures, and what is said beyond the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.report.analysis.pivot import Pivot
from harness.report.analysis.representations import (
    MEASURES,
    METRIC,
    Correlation,
    ProbedArm,
    baseline_and_default,
    correlations,
    probed_arms,
    repeatability,
)
from harness.report.analysis.text import counted, in_words, listed, number
from harness.report.figures.block_profile import curve, levels_of, profile_picture
from harness.report.figures.over_training import length_chart, loss_chart
from harness.report.figures.picture import Picture
from harness.report.figures.sample_pairs import PairChart, Strips, pair_chart, sample_strips
from harness.report.figures.scatters import scatter_chart
from harness.report.figures.style import ArmStyles
from harness.report.figures.sweeps import size_picture
from harness.report.figures.table_figure import table_figure
from harness.report.rendering.sheet import TableLayout
from harness.report.rendering.study_summary import command
from harness.store.store import Store
from harness.store.training_log import Logs


@dataclass(frozen=True)
class TableSection:
    """A table with its figures; `folded` ones, pairs and samples are hidden until asked for."""

    layout: TableLayout
    command: str
    figures: list[Picture]
    folded: list[Picture]
    pairs: PairChart | None
    samples: Strips | None


def table_section(store: Store, layout: TableLayout, logs: Logs, styles: ArmStyles) -> TableSection:
    """Gather what the page prints of one table."""
    pivot = layout.result.pivot
    meaningful = pivot.table.scale.meaningful
    figures = [table_figure(pivot, styles)]
    folded = [loss_chart(pivot, logs, styles), scatter_chart(pivot, logs, styles)]
    figures += [size_picture(pivot, styles), length_chart(pivot, styles)]
    return TableSection(
        layout=layout,
        command=command(store, pivot.table),
        figures=[figure for figure in figures if figure],
        folded=[figure for figure in folded if figure and meaningful],
        pairs=pair_chart(store, pivot) if meaningful else None,
        samples=sample_strips(store, pivot),
    )


@dataclass(frozen=True)
class RepresentationSection:
    """What the page says of representations: with and without the loss, and what goes with FID over all arms."""

    findings: list[str]
    arms: Sequence[ProbedArm]
    pair: tuple[ProbedArm, ProbedArm] | None
    picture: Picture | None
    correlations: list[tuple[str, str, str, str]]  # title, correlation, interval, definition
    protocol: Mapping[str, Any]
    record: Mapping[str, Any]  # all of it as data

    @property
    def network(self) -> str:
        """What all arms share: the network and its training's length."""
        cell = self.arms[0].cell
        return f"{cell.settings.model}, {cell.runs[0].evaluation.step:,} steps"

    @property
    def flattered(self) -> bool:
        """True where CKA and CKNNA compare with the very network whose features make FID."""
        own = self.arms[0].cell.runs[0].evaluation.evaluation.features == "classifier"
        return own and self.protocol["encoder"].startswith("classifier-")


def representations(store: Store, pivots: Sequence[Pivot]) -> RepresentationSection | None:
    """Return the section; None for a study without probes, or at a scale whose numbers mean nothing."""
    arms = probed_arms(store, [pivot for pivot in pivots if pivot.table.scale.meaningful])
    if not arms:
        return None
    pair, ranked, repeated = baseline_and_default(arms), correlations(arms), repeatability(arms)
    noise = [_noise(repeated)] if ranked and repeated is not None else []
    return RepresentationSection(
        findings=[*(_compared(*pair) if pair else ()), *_explained(ranked), *noise],
        arms=arms,
        pair=pair,
        picture=profile_picture(*pair) if pair else None,
        correlations=[(MEASURES[c.measure][0], _rho(c.rho), _interval(c), MEASURES[c.measure][1]) for c in ranked],
        protocol=next(iter(arms[0].seeds.values())).probe.protocol,
        record={"correlations": [asdict(c) for c in ranked], "arms": [_arm_record(arm) for arm in arms]},
    )


def _arm_record(arm: ProbedArm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "runs": {probed.run.train_id: probed.value for probed in arm.seeds.values()},
        METRIC: arm.value,
        **{measure: arm.mean(measure) for measure in MEASURES},
    }


def _compared(plain: ProbedArm, dispersive: ProbedArm) -> list[str]:
    def ratio(measure: str) -> str:
        with_it, without = dispersive.mean(measure), plain.mean(measure)
        return f"{number(with_it / without, 1)} times" if with_it is not None and without else "–"

    accuracies = []
    for index, level in enumerate(levels_of(plain)):
        best = [max(curve(arm, index, "probe_accuracy")[1:]) for arm in (plain, dispersive)]
        accuracies.append(f"{100 * best[0]:.1f} and {100 * best[1]:.1f} at noise {level.noise:g}")
    return [
        f"With the loss (“{dispersive.name}”), features are {ratio('norm')} as large as without and "
        f"{ratio('distance')} as far apart, means over blocks and noise levels.",
        f"Of held-out images a linear layer on the best block finds the label, without and with the loss, of this many "
        f"in a hundred: {listed(accuracies)}.",
    ]


def _explained(ranked: Sequence[Correlation]) -> list[str]:
    """Answer whether dispersion explains FID, in the order of arms; then name what else goes with it."""
    if not ranked:
        return ["There are too few arms to tell whether any measure goes with FID."]
    by_name = {correlation.measure: correlation for correlation in ranked}
    sentences = [f"{_verdict(by_name['distance'])}: {_words(by_name['distance'])}."] if "distance" in by_name else []
    if "uniformity" in by_name:
        correlation = _words(by_name["uniformity"])
        sentences.append(f"Uniformity, in which the size of features does not count, has {correlation}.")
    others = [correlation for correlation in ranked if correlation.measure not in ("distance", "uniformity")]
    names = listed([f"{MEASURES[c.measure][0]} ({_rho(c.rho)})" for c in others if c.sure]) or "none"
    sentences.append(
        f"Of the {in_words(len(others))} other measures, the interval leaves out zero for {names}; by chance alone it "
        "would for one in twenty."
    )
    return sentences


def _verdict(dispersion: Correlation) -> str:
    where = f"Over {counted(dispersion.arms, 'arm')} that differ in the regulariser alone,"
    if not dispersion.sure:
        return f"{where} it cannot be told whether FID goes with how far apart representations are"
    if dispersion.rho < 0:
        return f"{where} FID is lower, and so better, where representations are further apart"
    return f"{where} FID is higher, and so worse, where representations are further apart; dispersion explains no gain"


def _words(correlation: Correlation) -> str:
    return f"rank correlation {_rho(correlation.rho)}, 95\u202f% interval {_interval(correlation)}"


def _noise(repeated: float) -> str:
    return (
        f"FID itself ranks the arms of one seed as those of another with a correlation of {_rho(repeated)}; what is "
        "left is noise, which no measure explains. All of this is correlation, not cause."
    )


def _rho(value: float) -> str:
    return number(value, 2)


def _interval(correlation: Correlation) -> str:
    return f"{_rho(correlation.low)} to {_rho(correlation.high)}"
