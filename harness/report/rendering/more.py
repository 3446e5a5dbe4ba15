"""The pictures beneath a table that stay folded until they are asked for."""

from harness.report.analysis.pivot import Pivot
from harness.report.figures.charts import Chart
from harness.report.figures.loss_curves import loss_chart
from harness.report.figures.sample_pairs import pair_chart
from harness.report.figures.scatters import scatter_chart
from harness.store.store import Store
from harness.store.training_log import Logs


def more_pictures(store: Store, pivot: Pivot, logs: Logs) -> list[Chart]:
    """Return what a table can show besides: losses, precision and recall, cost, and pairs of samples."""
    if not pivot.table.scale.meaningful:
        return []
    found = [loss_chart(pivot, logs), scatter_chart(pivot, logs), pair_chart(store, pivot)]
    return [one for one in found if one]
