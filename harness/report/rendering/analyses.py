"""What the page says beyond its tables: tests of their changes, guidance, response surfaces, early ranking."""

from collections.abc import Sequence
from typing import Any

from harness.report.analysis import significance
from harness.report.analysis.early_ranking import pruning
from harness.report.analysis.guidance_sweep import sweeps
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.surfaces import surfaces
from harness.report.rendering import captions as protocols
from harness.store.store import Store
from harness.store.training_log import Logs


def analyses(store: Store, pivots: Sequence[Pivot], logs: Logs) -> dict[str, Any]:
    """Return what the templates of these parts print, and the modules whose words they use."""
    return {
        "protocols": protocols,
        "significance": significance,
        "guidance": sweeps(pivots),
        "surfaces": surfaces(pivots),
        "pruning": pruning(store, pivots, logs),
    }
