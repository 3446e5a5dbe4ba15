"""The block profile: how large the features of each block are, and what a linear layer reads off them."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.representations import ProbedArm
from harness.report.analysis.text import number, runs_anchor, seed_anchor
from harness.report.figures.marks import Mark
from harness.report.figures.panels import Line, Panel, panels_figure
from harness.report.figures.picture import Picture
from harness.report.figures.style import ARM_COLOURS, MARKERS, MUTED, ArmStyle
from harness.store.records import ProbedLevel

PANELS = {"norm": "norm", "probe_accuracy": "probe accuracy"}
Shown = Mapping[str, tuple[Pivot, PivotCell]]
HEIGHT = 1.35  # inches
SEED = {"marker": "", "linewidth": 0.4, "alpha": 0.6, "label": None}
WITHOUT, WITH = ArmStyle("without the loss"), ArmStyle("with the loss", ARM_COLOURS[0], MARKERS[1])


def profile_picture(plain: ProbedArm, dispersive: ProbedArm, shown: Shown) -> Picture:
    """Return norm and probe accuracy by block, a column for each noise level, without the loss and with it.

    A dashed line is what a linear layer reads off the pixels, dotted ones are the blocks that the loss is on.
    shown: of each training, the table and cell that have its run.
    """
    panels = [panel for measure in PANELS for panel in _panels({WITHOUT: plain, WITH: dispersive}, measure, shown)]
    alt = f"Without the loss, {_alt(plain)}. With it, {_alt(dispersive)}."
    return Picture("profile", "representations", alt, lambda: _drawn(panels, dispersive))


def levels_of(arm: ProbedArm) -> Sequence[ProbedLevel]:
    """Return the noise levels at which an arm was probed."""
    return next(iter(arm.seeds.values())).probe.levels


def curve(arm: ProbedArm, noise: int, measure: str) -> list[float]:
    """Return a measure of each block at the noise level of that number, the mean over seeds; block 0 comes first."""
    return [fmean(values) for values in zip(*_seeds(arm, noise, measure), strict=True)]


def _seeds(arm: ProbedArm, noise: int, measure: str) -> list[list[float]]:
    return [[getattr(b, measure) for b in seed.probe.levels[noise].blocks] for seed in arm.seeds.values()]


def _panels(arms: Mapping[ArmStyle, ProbedArm], measure: str, shown: Shown) -> Iterator[Panel]:
    """A panel for each noise level; what a linear layer reads off the pixels is the value of block 0."""
    for noise, level in enumerate(levels_of(arms[WITHOUT])):
        lines = [line for style, arm in arms.items() for line in _lines(style, arm, noise, measure, shown)]
        title = f"noise {level.noise:g}" if measure == "norm" else ""
        pixels = curve(arms[WITHOUT], noise, measure)[0] if measure == "probe_accuracy" else None
        yield Panel("block", PANELS[measure], lines, title, also=[0.0], at=pixels)


def _lines(style: ArmStyle, arm: ProbedArm, noise: int, measure: str, shown: Shown) -> Iterator[Line]:
    """Each seed by block, and before them their mean."""
    means = curve(arm, noise, measure)[1:]
    blocks, what = range(1, len(means) + 1), f"{style.label}, {PANELS[measure]} of block"
    for (seed, probed), values in zip(arm.seeds.items(), _seeds(arm, noise, measure), strict=True):
        words = f"{what} 1 to {len(means)}, seed {seed}: {number(values[1], 2)} to {number(values[-1], 2)}"
        yield Line(
            style, blocks, values[1:], look=SEED, marks=[Mark(seed_anchor(*shown[probed.run.train_id], seed), words)]
        )
    anchor = runs_anchor(*shown[next(iter(arm.seeds.values())).run.train_id])
    marks = [
        Mark(anchor, f"{what} {block}: {number(mean, 2)}, n={len(arm.seeds)}")
        for block, mean in zip(blocks, means, strict=True)
    ]
    yield Line(style, blocks, means, look={"markersize": 3.2}, marks=marks)


def _drawn(panels: Sequence[Panel], dispersive: ProbedArm) -> Figure:
    figure = panels_figure(panels, len(panels) // len(PANELS), HEIGHT, shared=True)
    regularizer = dispersive.cell.runs[0].train.regularizer
    assert regularizer
    for axes in figure.axes:
        for block in regularizer.blocks:
            axes.axvline(block, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def _alt(arm: ProbedArm) -> str:
    parts = []
    for index, level in enumerate(levels_of(arm)):
        for measure, title in PANELS.items():
            values = ", ".join(number(value, 2) for value in curve(arm, index, measure)[1:])
            parts.append(f"{title} at noise {level.noise:g} {values}")
    return f"by block from the first: {'; '.join(parts)}"
