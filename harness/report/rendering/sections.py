"""The sections of the page: each table with its figures, and what is said beyond the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.report.analysis import representations as probing
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.representations import METRIC, Correlation, ProbedArm
from harness.report.analysis.text import number, sentences
from harness.report.figures import block_profile, over_training, sample_pairs, scatters, sweeps, table_figure
from harness.report.figures.picture import Picture
from harness.report.figures.style import ArmStyles
from harness.report.rendering.captions import caption_parts, in_one
from harness.report.rendering.sheet import TableLayout
from harness.report.rendering.study_summary import command
from harness.store.records import overshoot
from harness.store.store import Logs, Store

SEEDS = "1.0"  # the part of a caption that says how many seeds there are, which stands beside each mean too


@dataclass(frozen=True)
class TableSection:
    """A table with its figures; `folded` ones, pairs and samples are hidden until asked for.

    caption: what the tables of the study do not share.
    """

    layout: TableLayout
    caption: str
    command: str
    figures: list[Picture]
    folded: list[Picture]
    pairs: sample_pairs.Pairs | None
    samples: sample_pairs.Strips | None
    warnings: Sequence[str]


def table_section(
    store: Store, layout: TableLayout, shared: Mapping[str, str], logs: Logs, styles: ArmStyles
) -> TableSection:
    """Gather what the page prints of one table."""
    pivot = layout.result.pivot
    meaningful = pivot.table.scale.meaningful
    own = table_figure.table_figure(pivot, styles)
    lines = [sweeps.size_picture(pivot, styles), over_training.length_chart(pivot, styles)]
    beside = [] if layout.groups and meaningful else [own]  # a table that takes the page's width leaves no place
    shown: list[Picture | None] = [*filter(None, lines)] or beside  # of two that show the same values, the clearer
    folded = [over_training.loss_chart(pivot, logs, styles), scatters.scatter_chart(pivot, logs, styles)]
    folded = [*([] if own in shown or own is None else [replace(own, title="Every seed")]), *folded]
    return TableSection(
        layout=layout,
        caption=_own_caption(layout, shared),
        command=command(store, pivot.table),
        figures=[figure for figure in shown if figure],
        folded=[figure for figure in folded if figure and meaningful],
        pairs=sample_pairs.pair_chart(store, pivot) if meaningful else None,
        samples=sample_pairs.sample_strips(store, pivot),
        warnings=_warnings(pivot, logs),
    )


def _warnings(pivot: Pivot, logs: Logs) -> list[str]:
    """Say of each arm how far its loss has blown the features up; cells of the same trainings are one."""
    said: dict[tuple[str, ...], str] = {}
    for cell in pivot.cells:
        trainings = tuple(run.train_id for run in cell.runs)
        peaks = [peak for train_id in trainings if (peak := overshoot(logs.of(train_id)))]
        if peaks and trainings not in said:
            said[trainings] = f"{cell.name}: {max(peaks).words} ({len(peaks)} of {len(trainings)} seeds)."
    return list(said.values())


def _own_caption(layout: TableLayout, shared: Mapping[str, str]) -> str:
    """What the table's caption says beyond what is said above all tables, and why a number of the paper is absent."""
    own = {part: words for part, words in caption_parts(layout.sentences).items() if shared.get(part) != words}
    parts = [words for part, words in own.items() if part != SEEDS or not layout.result.pivot.protocols]
    pivot = layout.result.pivot
    without = [cell for cell in pivot.cells if not cell.paper]
    if layout.over and 0 < len(without) < len(pivot.cells):
        ours = all(pivot.table.is_ours(cell.source) for cell in without)
        parts.append(f"Where the paper’s is missing, {'it has none' if ours else 'none is available to us'}")
    return in_one(parts)


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
        picture=block_profile.profile_picture(*pair, _shown(pivots)) if pair else None,
        correlations=ranked,
        record={"correlations": [asdict(c) for c in ranked], "arms": [_arm_record(arm) for arm in arms]},
    )


def _shown(pivots: Sequence[Pivot]) -> dict[str, tuple[Pivot, PivotCell]]:
    """Return the first table and cell that have each training."""
    return {run.train_id: (pivot, c) for pivot in reversed(pivots) for c in reversed(pivot.cells) for run in c.runs}


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
