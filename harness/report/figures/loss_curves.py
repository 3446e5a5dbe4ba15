"""What training did in each arm: the denoising loss and the regulariser by step, as means over seeds."""

from collections.abc import Sequence
from statistics import fmean

from matplotlib.figure import Figure

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import slug
from harness.report.figures.charts import Chart, chart, legend, panels
from harness.report.figures.run_curves import thinned
from harness.report.figures.table_figure import ARMS, INK, drawn
from harness.store.training_log import Logs, Series

MOST = 5  # arms beside the baseline: more lines cannot be told apart
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))
Arm = tuple[PivotCell, Series, Series]


def loss_chart(pivot: Pivot, logs: Logs) -> Chart | None:
    """Return the loss curves of the best arm's baseline and of the best arms against it; None without two arms."""
    arms = [arm for cell in chosen(pivot) if (arm := _arm(cell, logs))[1]]
    if len(arms) < 2:
        return None
    few = len(arms) < len(pivot.cells)
    whose = f" of the baseline and the best of the table’s {len(pivot.cells)} cells" if few else ""
    kinds = {cell.source.settings.regularizer.loss for cell, _, _ in arms} - {"none"}
    own = " Regularisers of different kinds have scales of their own." if len(kinds) > 1 else ""
    caption = f"Means over seeds{whose}, as the logs hold them.{own}"
    return chart("Loss curves", f"{slug(pivot.table.name)}-losses", _alt(arms), caption, lambda: _drawn(arms))


def chosen(pivot: Pivot) -> list[PivotCell]:
    """Return the best cell's baseline and the best cells against it, one of each training."""
    known = [cell for cell in pivot.cells if cell.ours and cell.change and drawn(pivot, cell)]
    if not known:
        return []
    sign = -1 if pivot.metric.direction == "higher" else 1
    known.sort(key=lambda cell: (sign * cell.ours.mean if cell.ours else 0.0, cell.name))
    baseline = pivot.table.baseline(known[0].source)
    of_one = [cell for cell in known if pivot.table.baseline(cell.source) is baseline]
    trainings = {tuple(run.train_id for run in cell.runs): cell for cell in reversed(of_one)}
    shown = [cell for cell in of_one if cell in trainings.values()][:MOST]
    return [*(cell for cell in pivot.cells if cell.source is baseline), *shown]


def _arm(cell: PivotCell, logs: Logs) -> Arm:
    return cell, _mean(cell, logs, "denoising"), _mean(cell, logs, "regularizer")


def _mean(cell: PivotCell, logs: Logs, key: str) -> Series:
    """Average a key over the seeds that logged it, at the steps that all of them have."""
    series = [dict(found) for run in cell.runs if (found := logs.of(run.train_id).of(key))]
    common = sorted(set.intersection(*map(set, series))) if series else []
    return thinned(tuple((step, fmean(one[step] for one in series)) for step in common))


def _drawn(arms: Sequence[Arm]) -> Figure:
    regularised = [arm for arm in arms if arm[2]]
    titles = [("step", "denoising loss"), ("step", "regulariser")]
    figure, axes = panels(titles[: 2 if regularised else 1], len(arms))
    for index, (cell, *both) in enumerate(arms):
        colour = ARMS[(index - 1) % len(ARMS)] if index else INK
        for panel, series in zip(axes, both, strict=False):
            steps, values = [step for step, _ in series], [value for _, value in series]
            style = DASHES[(index - 1) % len(DASHES)] if index else "solid"
            panel.plot(steps, values, color=colour, linestyle=style, linewidth=1.1, label=cell.name)
    legend(figure, axes[:1])
    return figure


def _alt(arms: Sequence[Arm]) -> str:
    said = []
    for cell, denoising, regulariser in arms:
        end = f", regulariser {regulariser[-1][1]:.4g}" if regulariser else ""
        said.append(f"{cell.name} {denoising[0][1]:.4g} to {denoising[-1][1]:.4g}{end}")
    return f"Denoising loss by step, from its first to its last: {'; '.join(said)}."
