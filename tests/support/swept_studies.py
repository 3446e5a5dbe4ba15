"""Synthetic runs of sweeps whose answers are known: guidance scales, and λ with τ."""

from pathlib import Path

from support import synthetic_study as synthetic
from support.synthetic_study import pivot_of

from harness.config.grid import Run, Table
from harness.report.analysis.pivot import Pivot
from harness.store.store import Store

SEEDS = "seeds=[0,1,2,3,4]"


NOISE = {0: 0.011, 1: -0.013, 2: 0.004, 3: 0.009, 4: -0.01}  # of a seed, the same for all arms


def jitter(run: Run, place: int) -> float:
    """Noise of a run alone, small and known."""
    return 0.002 * ((7 * place + 3 * run.seed) % 5 - 2)


def guided(folder: Path, loss_costs: float, shared: float) -> tuple[Store, Table]:
    """A sweep whose recall falls by 0.1 with each unit of guidance, and by `loss_costs` with the loss.

    shared: how much less guidance costs the dispersive arm. FID is best at guidance 2, where the gain of 10 % halves.
    """
    store, table = synthetic.new_store(folder), synthetic.table_of("guidance", "digits", SEEDS)
    for place, cell in enumerate(table.cells):
        scale, disperses = cell.settings.sampler.guidance, cell.settings.regularizer.loss != "none"
        gain = (0.9 if scale < 2 else 0.95) if disperses else 1.0
        for run in cell.runs:
            noise = NOISE[run.seed] + jitter(run, place)
            recall = 0.8 - 0.1 * (scale - 1) - disperses * (loss_costs - shared * (scale - 1)) + noise
            fid = gain * (4 + (scale - 2) ** 2) * (1 + noise)
            synthetic.write_measurement(store, run, fid, further={"recall": recall})
    return store, table


def surface_of(folder: Path, best: tuple[str, str], near: tuple[str, str], level: float = 4.0) -> Pivot:
    """Table 4 where one setting is best, one within 1 % of it, and the others 5 % and more away; the baseline has 5."""
    store, table = synthetic.new_store(folder), synthetic.table_of("table4", "digits", SEEDS)
    for place, cell in enumerate(table.cells):
        at = (cell.label("λ"), cell.label("τ"))
        value = 5.0 if cell.aside else level * {best: 1.0, near: 1.005}.get(at, 1.05 + 0.01 * place)
        for run in cell.runs:
            synthetic.write_measurement(store, run, value * (1 + NOISE[run.seed] + jitter(run, place) / 10))
    return pivot_of(store, table)
