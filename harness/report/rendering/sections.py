"""The sections of the page: each table with its figures, and what is said beyond the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.report.analysis import representations as probing
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.representations import METRIC, Correlation, ProbedArm
from harness.report.analysis.text import number, sentences
from harness.report.figures import block_profile, over_training, sample_pairs, scatters, sweeps, table_figure
from harness.report.figures.picture import Picture
from harness.report.figures.style import ArmStyles
from harness.report.rendering.sheet import TableLayout
from harness.report.rendering.study_summary import command
from harness.store.store import Logs, Store


@dataclass(frozen=True)
class TableSection:
    """A table with its figures; `folded` ones, pairs and samples are hidden until asked for."""

    layout: TableLayout
    command: str
    figures: list[Picture]
    folded: list[Picture]
    pairs: sample_pairs.Pairs | None
    samples: sample_pairs.Strips | None


def table_section(store: Store, layout: TableLayout, logs: Logs, styles: ArmStyles) -> TableSection:
    """Gather what the page prints of one table."""
    pivot = layout.result.pivot
    meaningful = pivot.table.scale.meaningful
    figures = [table_figure.table_figure(pivot, styles)]
    folded = [over_training.loss_chart(pivot, logs, styles), scatters.scatter_chart(pivot, logs, styles)]
    figures += [sweeps.size_picture(pivot, styles), over_training.length_chart(pivot, styles)]
    return TableSection(
        layout=layout,
        command=command(store, pivot.table),
        figures=[figure for figure in figures if figure],
        folded=[figure for figure in folded if figure and meaningful],
        pairs=sample_pairs.pair_chart(store, pivot) if meaningful else None,
        samples=sample_pairs.sample_strips(store, pivot),
    )


@dataclass(frozen=True)
class RepresentationSection:
    """What the page says of representations: with and without the loss, and what goes with FID over all arms."""

    findings: list[str]
    arms: Sequence[ProbedArm]
    pair: tuple[ProbedArm, ProbedArm] | None
    picture: Picture | None
    correlations: list[Correlation]
    record: Mapping[str, Any]  # all of it as data


def representations(store: Store, pivots: Sequence[Pivot]) -> RepresentationSection | None:
    """Return the section; None for a study without probes, or at a scale whose numbers mean nothing."""
    arms = probing.probed_arms(store, [pivot for pivot in pivots if pivot.table.scale.meaningful])
    if not arms:
        return None
    pair, ranked = probing.baseline_and_default(arms), probing.correlations(arms)
    further = [c for c in ranked if c.measure not in ("distance", "uniformity")]
    findings = sentences(
        "representations.j2",
        pair=pair,
        accuracies=_accuracies(pair) if pair else [],
        ranked={correlation.measure: correlation for correlation in ranked},
        further=further,
        sure=[f"{probing.MEASURES[c.measure][0]} ({number(c.rho, 2)})" for c in further if c.sign],
        repeated=probing.repeatability(arms),
    )
    return RepresentationSection(
        findings=findings,
        arms=arms,
        pair=pair,
        picture=block_profile.profile_picture(*pair) if pair else None,
        correlations=ranked,
        record={"correlations": [asdict(c) for c in ranked], "arms": [_arm_record(arm) for arm in arms]},
    )


def _accuracies(pair: Sequence[ProbedArm]) -> list[str]:
    """How often the best block's features tell the label, in percent by noise level, for each of two arms."""
    words = []
    for index, level in enumerate(block_profile.levels_of(pair[0])):
        best = [100 * max(block_profile.curve(arm, index, "probe_accuracy")[1:]) for arm in pair]
        words.append(f"{best[0]:.1f} and {best[1]:.1f} at noise {level.noise:g}")
    return words


def _arm_record(arm: ProbedArm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "runs": {probed.run.train_id: probed.value for probed in arm.seeds.values()},
        METRIC: arm.value,
        **{measure: arm.mean(measure) for measure in probing.MEASURES},
    }
