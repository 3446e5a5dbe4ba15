"""The block profile: how large the features of each block are, and what a linear layer reads off them."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.report.analysis.representations import ProbedArm
from harness.report.analysis.text import number
from harness.report.figures.table_figure import ARMS, INK, MUTED, WIDTH, Picture, painted, plain_axes
from harness.store.records import ProbedLevel

PANELS = {"norm": "norm", "probe_accuracy": "probe accuracy"}
HEIGHT, TOP, BOTTOM, LEFT, GAP = 1.35, 0.62, 0.42, 0.55, 0.16  # inches
STYLES: tuple[dict[str, Any], ...] = ({"color": INK, "marker": "o"}, {"color": ARMS[0], "marker": "s"})


def profile_picture(plain: ProbedArm, dispersive: ProbedArm) -> Picture:
    """Return norm and probe accuracy by block, a column for each noise level, without the loss and with it."""
    arms = (plain, dispersive)
    alt = " ".join(_alt(arm, name) for arm, name in zip(arms, ("Without the loss", "With it"), strict=True))
    return painted("profile", "representations", alt, lambda: _drawn(arms))


def curve(arm: ProbedArm, noise: int, measure: str) -> list[float]:
    """Return a measure of each block at the noise level of that number, the mean over seeds; block 0 comes first."""
    return [fmean(values) for values in zip(*_seeds(arm, noise, measure), strict=True)]


def _levels(arm: ProbedArm) -> Sequence[ProbedLevel]:
    return next(iter(arm.seeds.values())).probe.levels


def _seeds(arm: ProbedArm, noise: int, measure: str) -> list[list[float]]:
    return [[getattr(b, measure) for b in seed.probe.levels[noise].blocks] for seed in arm.seeds.values()]


def _drawn(arms: Sequence[ProbedArm]) -> Figure:
    levels = _levels(arms[0])
    height = TOP + len(PANELS) * (HEIGHT + GAP) + BOTTOM
    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(len(PANELS), len(levels), sharex=True, sharey="row", squeeze=False)
    figure.subplots_adjust(
        left=LEFT / WIDTH, right=1 - 0.12 / WIDTH, top=1 - TOP / height, bottom=BOTTOM / height, wspace=0.12, hspace=0.2
    )
    for row, (measure, title) in zip(grid, PANELS.items(), strict=True):
        for index, axes in enumerate(row):
            _panel(axes, arms, index, measure)
        row[0].set_ylabel(title, color=INK)
    for index, level in enumerate(levels):
        grid[0][index].set_title(f"noise {level.noise:g}", color=INK, fontsize=8)
        grid[-1][index].set_xlabel("block", color=INK)
    figure.legend(
        *grid[0][0].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(LEFT / WIDTH - 0.02, 1),
        frameon=False, labelcolor=INK, borderaxespad=0.2,
    )  # fmt: skip
    return figure


def _panel(axes: Axes, arms: Sequence[ProbedArm], noise: int, measure: str) -> None:
    for arm, name, style in zip(arms, ("without the loss", "with the loss"), STYLES, strict=True):
        values = curve(arm, noise, measure)[1:]
        blocks = range(1, len(values) + 1)
        for seed in _seeds(arm, noise, measure):
            axes.plot(blocks, seed[1:], color=style["color"], linewidth=0.4, alpha=0.6)
        axes.plot(blocks, values, **style, markersize=3.2, linewidth=1.2, label=name)
    if measure == "probe_accuracy":
        axes.axhline(curve(arms[0], noise, measure)[0], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    regularizer = arms[1].cell.runs[0].train.regularizer
    assert regularizer
    for block in regularizer.blocks:
        axes.axvline(block, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    plain_axes(axes)


def _alt(arm: ProbedArm, name: str) -> str:
    said = []
    for index, level in enumerate(_levels(arm)):
        for measure, title in PANELS.items():
            values = ", ".join(number(value, 2) for value in curve(arm, index, measure)[1:])
            said.append(f"{title} at noise {level.noise:g} {values}")
    return f"{name}, by block from the first: {'; '.join(said)}."
