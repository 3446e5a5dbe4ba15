"""The change of FID and of the held-out loss along a factor, a line for each arm, with the intervals over seeds."""

from harness.report.analysis.factors import FactorEffect, Trend
from harness.report.analysis.text import percent_change, slug
from harness.report.figures.marks import Mark
from harness.report.figures.panels import Panel, changed, panels_figure
from harness.report.figures.picture import Picture
from harness.report.figures.style import ArmStyles

HEIGHT = 2.2  # inches


def effect_anchor(trend: Trend, effect: FactorEffect) -> str:
    """Return the name that the numbers of a mark have in links within the page."""
    return f"runs-{slug('-'.join((trend.study, trend.table.name, trend.where, effect.arm, effect.level)))}"


def factor_picture(trend: Trend, styles: ArmStyles) -> Picture:
    """Draw a trend: a panel for each metric."""
    panels = [_panel(trend, metric, styles) for metric in trend.pivots]
    parts = (f"{made.metric.title}: {_alt(trend, metric)}" for metric, made in trend.pivots.items())
    alt = f"Change against the baseline by {trend.axis}. {'; '.join(parts)}."
    name = "-".join(part for part in (trend.study, trend.table.name, trend.factor.name, trend.where) if part)
    return Picture("factor", slug(name), alt, lambda: panels_figure(panels, height=HEIGHT))


def _panel(trend: Trend, metric: str, styles: ArmStyles) -> Panel:
    made, by_arm, lines = trend.pivots[metric], styles.of(trend.arms), []
    for arm in trend.arms:
        effects = {float(trend.levels.index(e.level)): e for e in trend.of(arm) if e.change(metric)}
        marks = {x: Mark(effect_anchor(trend, e), _words(trend, e, metric)) for x, e in effects.items()}
        lines.append(changed(by_arm[arm], made, {x: e.cells[metric] for x, e in effects.items()}, marks))
    changes = [change for effect in trend.effects if (change := effect.change(metric)) and not change.silent]
    ends = [end for change in changes if change.interval for end in (change.interval.low, change.interval.high)]
    title = f"change of {made.metric.title}, %"
    return Panel(trend.axis, "", [line for line in lines if line.x], title, also=ends, at=0.0, ticks=trend.levels)


def _words(trend: Trend, effect: FactorEffect, metric: str) -> str:
    change = effect.change(metric)
    assert change
    where = f", {trend.where}" if trend.where else ""
    title = trend.pivots[metric].metric.title
    return f"{effect.arm}, {trend.axis} {effect.level}{where}: {title} {percent_change(change)}, n={len(change.seeds)}"


def _alt(trend: Trend, metric: str) -> str:
    shown = [(effect, effect.change(metric)) for effect in trend.effects]
    return ", ".join(f"{effect.arm} at {effect.level} {percent_change(change)}" for effect, change in shown if change)
