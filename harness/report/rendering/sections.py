"""What the page says beyond its tables: representations, guidance, response surfaces, early ranking, more pictures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.report.analysis.early_ranking import early_rankings
from harness.report.analysis.guidance_sweep import sweeps
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
from harness.report.analysis.surfaces import surfaces
from harness.report.analysis.text import count, counted, listed, number
from harness.report.figures.block_profile import curve, profile_picture
from harness.report.figures.charts import Chart
from harness.report.figures.loss_curves import loss_chart
from harness.report.figures.sample_pairs import pair_chart
from harness.report.figures.scatters import scatter_chart
from harness.report.figures.sweeps import guidance_picture, surface_picture
from harness.report.figures.table_figure import Picture
from harness.report.rendering import captions as protocols
from harness.store.store import Store
from harness.store.training_log import Logs


def analyses(store: Store, pivots: Sequence[Pivot], logs: Logs) -> dict[str, Any]:
    """Return what the templates of these parts print, and the modules whose words they use."""
    return {
        "protocols": protocols,
        "guidance": [(sweep, guidance_picture(sweep)) for sweep in sweeps(pivots)],
        "surfaces": [(surface, surface_picture(surface)) for surface in surfaces(pivots)],
        "pruning": early_rankings(store, pivots, logs),
    }


def more_pictures(store: Store, pivot: Pivot, logs: Logs) -> list[Chart]:
    """Return what a table can show besides: losses, precision and recall, cost, and pairs of samples."""
    if not pivot.table.scale.meaningful:
        return []
    found = [loss_chart(pivot, logs), scatter_chart(pivot, logs), pair_chart(store, pivot)]
    return [one for one in found if one]


@dataclass(frozen=True)
class CorrelationRow:
    """A correlation as it is printed."""

    title: str
    rho: str
    interval: str
    definition: str


@dataclass(frozen=True)
class Section:
    """All that the page says of representations."""

    findings: tuple[str, ...]
    picture: Picture | None
    profile_caption: str
    correlations: tuple[CorrelationRow, ...]
    table_caption: str
    protocol: str
    record: dict[str, Any]  # all of it as data


def representations(store: Store, pivots: Sequence[Pivot]) -> Section | None:
    """Return the section; None for a study without probes, or at a scale whose numbers mean nothing."""
    found = probed_arms(store, [pivot for pivot in pivots if pivot.table.scale.meaningful])
    if not found:
        return None
    pair, ranked = baseline_and_default(found), correlations(found)
    return Section(
        findings=(*(_compared(*pair) if pair else ()), *_explained(ranked), *_noise(found, ranked)),
        picture=profile_picture(*pair) if pair else None,
        profile_caption=_profile_caption(*pair) if pair else "",
        correlations=tuple(_row(correlation) for correlation in ranked),
        table_caption=_table_caption(found),
        protocol=_protocol(found[0]),
        record={"correlations": [asdict(c) for c in ranked], "arms": [_arm_record(arm) for arm in found]},
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

    levels = list(next(iter(plain.seeds.values())).probe.levels)
    accuracies = []
    for index, level in enumerate(levels):
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
    said = [f"{_verdict(by_name['distance'])}: {_words(by_name['distance'])}."] if "distance" in by_name else []
    if "uniformity" in by_name:
        said.append(f"Uniformity, in which the size of features does not count, has {_words(by_name['uniformity'])}.")
    others = [correlation for correlation in ranked if correlation.measure not in ("distance", "uniformity")]
    names = listed([f"{MEASURES[c.measure][0]} ({_rho(c.rho)})" for c in others if c.sure]) or "none"
    said.append(
        f"Of the {count(len(others))} other measures, the interval leaves out zero for {names}; by chance alone it "
        "would for one in twenty."
    )
    return said


def _verdict(dispersion: Correlation) -> str:
    where = f"Over {counted(dispersion.arms, 'arm')} that differ in the regulariser alone,"
    if not dispersion.sure:
        return f"{where} it cannot be told whether FID goes with how far apart representations are"
    if dispersion.rho < 0:
        return f"{where} FID is lower, and so better, where representations are further apart"
    return f"{where} FID is higher, and so worse, where representations are further apart; dispersion explains no gain"


def _words(correlation: Correlation) -> str:
    return f"rank correlation {_rho(correlation.rho)}, 95\u202f% interval {_interval(correlation)}"


def _noise(found: Sequence[ProbedArm], ranked: Sequence[Correlation]) -> list[str]:
    repeated = repeatability(found)
    if repeated is None or not ranked:
        return []
    return [
        f"FID itself ranks the arms of one seed as those of another with a correlation of {_rho(repeated)}; what is "
        "left is noise, which no measure explains. All of this is correlation, not cause."
    ]


def _row(correlation: Correlation) -> CorrelationRow:
    title, definition = MEASURES[correlation.measure]
    return CorrelationRow(title, _rho(correlation.rho), _interval(correlation), definition)


def _rho(value: float) -> str:
    return number(value, 2)


def _interval(correlation: Correlation) -> str:
    return f"{_rho(correlation.low)} to {_rho(correlation.high)}"


def _profile_caption(plain: ProbedArm, dispersive: ProbedArm) -> str:
    return (
        "Above, the root mean square of each block’s features (the paper’s Figure 3 has their norm); below, the share "
        "of held-out images whose label a linear layer tells from their mean over tokens, and as a dashed line from "
        f"pixels. {_network(plain)}; thin lines are seeds, thick ones their mean. With the loss: “{dispersive.name}”, "
        "on the block of the dotted line."
    )


def _table_caption(found: Sequence[ProbedArm]) -> str:
    runs = sum(len(arm.seeds) for arm in found)
    return (
        f"Spearman’s rank correlation over {counted(len(found), 'arm')} ({counted(runs, 'run')}) that differ in "
        f"nothing but the regulariser: {_network(found[0])}. Each arm is the mean of its seeds, each measure the mean "
        "over blocks and noise levels; positive means that FID is higher, and so worse, where the measure is."
    )


def _network(arm: ProbedArm) -> str:
    step = arm.cell.runs[0].evaluation.step
    return f"{arm.cell.settings.model}, {step:,} steps"


def _flattering(arm: ProbedArm, encoder: str) -> str:
    """Say where CKA and CKNNA compare with the very network whose features make FID."""
    measured = arm.cell.runs[0].evaluation.evaluation.features == "classifier" and encoder.startswith("classifier-")
    return ", which is also the network of FID’s features: they are close for that alone" if measured else ""


def _protocol(arm: ProbedArm) -> str:
    said: dict[str, Any] = next(iter(arm.seeds.values())).probe.protocol
    noise = listed([f"{share:g}" for share in said["noise"]])
    return (
        f"Made by harness probe: EMA weights, null label, noise levels {noise} (shares of the way from image to "
        f"noise); the linear layer is fitted on {said['fit']}, and everything is measured on {said['held_out']}; "
        f"reference encoder {said['encoder']}{_flattering(arm, said['encoder'])}. Intervals: Bonett and Wright (2000), "
        "arms taken as independent."
    )
