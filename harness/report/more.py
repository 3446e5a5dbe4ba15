"""The pictures beneath a table that stay folded until they are asked for."""

from harness.report.charts import Chart
from harness.report.logs import Logs
from harness.report.losses import loss_chart
from harness.report.pairs import pair_chart
from harness.report.scatters import scatter_chart
from harness.report.tables import Pivot
from harness.store import Store


def more_pictures(store: Store, pivot: Pivot, logs: Logs) -> list[Chart]:
    """Return what a table can show besides: losses, precision and recall, cost, and pairs of samples."""
    if not pivot.table.scale.meaningful:
        return []
    found = [loss_chart(pivot, logs), scatter_chart(pivot, logs), pair_chart(store, pivot)]
    return [one for one in found if one]
