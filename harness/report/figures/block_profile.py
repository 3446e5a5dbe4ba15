"""The block profile: how large the features of each block are, and what a linear layer reads off them."""

from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.report.analysis.representations import ProbedArm
from harness.report.analysis.text import number
from harness.report.figures.panels import Line, Panel, add_legend, draw_panel
from harness.report.figures.picture import Picture, painted
from harness.report.figures.style import ARM_COLOURS, INK, MARKERS, MUTED, WIDTH, ArmStyle
from harness.store.records import ProbedLevel

PANELS = {"norm": "norm", "probe_accuracy": "probe accuracy"}
HEIGHT, TOP, BOTTOM, LEFT, GAP = 1.35, 0.62, 0.42, 0.55, 0.16  # inches
SEED = {"marker": "", "linewidth": 0.4, "alpha": 0.6, "label": None}


def profile_picture(plain: ProbedArm, dispersive: ProbedArm) -> Picture:
    """Return norm and probe accuracy by block, a column for each noise level, without the loss and with it.

    A dashed line is what a linear layer reads off the pixels, dotted ones are the blocks that the loss is on.
    """
    arms = (plain, dispersive)
    alt = " ".join(_alt(arm, name) for arm, name in zip(arms, ("Without the loss", "With it"), strict=True))
    styles = ArmStyle("without the loss"), ArmStyle("with the loss", ARM_COLOURS[0], MARKERS[1])
    return painted("profile", "representations", alt, lambda: _drawn(arms, styles))


def curve(arm: ProbedArm, noise: int, measure: str) -> list[float]:
    """Return a measure of each block at the noise level of that number, the mean over seeds; block 0 comes first."""
    return [fmean(values) for values in zip(*_seeds(arm, noise, measure), strict=True)]


def _levels(arm: ProbedArm) -> Sequence[ProbedLevel]:
    return next(iter(arm.seeds.values())).probe.levels


def _seeds(arm: ProbedArm, noise: int, measure: str) -> list[list[float]]:
    return [[getattr(b, measure) for b in seed.probe.levels[noise].blocks] for seed in arm.seeds.values()]


def _drawn(arms: Sequence[ProbedArm], styles: Sequence[ArmStyle]) -> Figure:
    levels = _levels(arms[0])
    height = TOP + len(PANELS) * (HEIGHT + GAP) + BOTTOM
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(len(PANELS), len(levels), sharex=True, sharey="row", squeeze=False)
    sides = {"left": LEFT / WIDTH, "right": 1 - 0.12 / WIDTH, "top": 1 - TOP / height, "bottom": BOTTOM / height}
    figure.subplots_adjust(**sides, wspace=0.12, hspace=0.2)
    for row, measure in zip(grid, PANELS, strict=True):
        panels = [_panel(arms, styles, noise, measure) for noise in range(len(levels))]
        largest = max(y for panel in panels for line in panel.lines for y in line.y)
        for axes, panel in zip(row, panels, strict=True):
            draw_panel(axes, panel)
            _mark_blocks(axes, arms[1])
        row[0].set(ylabel=PANELS[measure], ylim=(0, 1.1 * largest))
    for axes, level in zip(grid[0], levels, strict=True):
        axes.set_title(f"noise {level.noise:g}", fontsize=8, color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("block")
    add_legend(figure)
    return figure


def _panel(arms: Sequence[ProbedArm], styles: Sequence[ArmStyle], noise: int, measure: str) -> Panel:
    lines = [line for arm, style in zip(arms, styles, strict=True) for line in _lines(arm, style, noise, measure)]
    pixels = curve(arms[0], noise, measure)[0] if measure == "probe_accuracy" else None
    return Panel("", "", lines, at=pixels)


def _lines(arm: ProbedArm, style: ArmStyle, noise: int, measure: str) -> list[Line]:
    """The mean over seeds by block, behind it each seed."""
    values = curve(arm, noise, measure)[1:]
    blocks = range(1, len(values) + 1)
    seeds = [Line(style, blocks, seed[1:], look=SEED) for seed in _seeds(arm, noise, measure)]
    return [*seeds, Line(style, blocks, values, look={"markersize": 3.2})]


def _mark_blocks(axes: Axes, dispersive: ProbedArm) -> None:
    """Mark the blocks that the loss is on."""
    regularizer = dispersive.cell.runs[0].train.regularizer
    assert regularizer
    for block in regularizer.blocks:
        axes.axvline(block, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _alt(arm: ProbedArm, name: str) -> str:
    parts = []
    for index, level in enumerate(_levels(arm)):
        for measure, title in PANELS.items():
            values = ", ".join(number(value, 2) for value in curve(arm, index, measure)[1:])
            parts.append(f"{title} at noise {level.noise:g} {values}")
    return f"{name}, by block from the first: {'; '.join(parts)}."
