"""What the page says beyond its tables: tests of their changes, guidance, response surfaces, early ranking."""

from collections.abc import Sequence
from typing import Any

from harness.report import protocols, significance
from harness.report.guidance import sweeps
from harness.report.logs import Logs
from harness.report.pruning import pruning
from harness.report.surfaces import surfaces
from harness.report.tables import Pivot
from harness.store import Store


def analyses(store: Store, pivots: Sequence[Pivot], logs: Logs) -> dict[str, Any]:
    """Return what the templates of these parts print, and the modules whose words they use."""
    return {
        "protocols": protocols,
        "significance": significance,
        "guidance": sweeps(pivots),
        "surfaces": surfaces(pivots),
        "pruning": pruning(store, pivots, logs),
    }
