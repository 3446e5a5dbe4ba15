"""Arms: trainings that differ in regulariser and seed alone, and what is the same for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.config.grid import Run
from harness.config.spec import canonical
from harness.report.analysis.pivot import Pivot, PivotCell, RunState


@dataclass(frozen=True)
class Arm:
    """One setting of the regulariser: the cells that have it, of all tables and lengths of training."""

    cells: tuple[PivotCell, ...]

    @cached_property
    def measured(self) -> Mapping[int, Mapping[int, RunState]]:
        """Its runs that have a value, by step and seed."""
        by_step: dict[int, dict[int, RunState]] = {}
        for cell in self.cells:
            for run in cell.runs:
                if run.value is not None:
                    by_step.setdefault(step_of(cell), {})[run.seed] = run
        return by_step

    @property
    def trainings(self) -> dict[int, str]:
        """The identity of each training by seed."""
        return {seed: run.train_id for runs in self.measured.values() for seed, run in runs.items()}

    def values(self, step: int) -> dict[int, float]:
        """Return its values at a step by seed; empty where it was not measured there."""
        return {seed: run.value for seed, run in self.measured.get(step, {}).items() if run.value is not None}


@dataclass(frozen=True)
class ArmGroup:
    """Arms that can be compared: one network, data set, optimiser, and way of sampling and measuring."""

    model: str
    arms: tuple[Arm, ...]


def arm_groups(pivots: Sequence[Pivot]) -> list[ArmGroup]:
    """Return the groups of the cells of tables that show one metric, arms and groups in the order of the tables."""
    groups: dict[tuple[str, ...], dict[str, list[PivotCell]]] = {}
    for cell in (cell for pivot in pivots for cell in pivot.cells if cell.values):
        run = cell.source.runs[0]
        groups.setdefault(_common(run), {}).setdefault(arm_key(run), []).append(cell)
    grouped = [[Arm(tuple(cells)) for cells in arms.values()] for arms in groups.values()]
    return [ArmGroup(arms[0].cells[0].source.settings.model, tuple(arms)) for arms in grouped]


def _common(run: Run) -> tuple[str, ...]:
    """What all arms of a group share: the training without regulariser and seed, the measurement without its step."""
    train = run.train.model_copy(update={"regularizer": None, "seed": 0})
    return canonical(train), canonical(run.evaluation.model_copy(update={"step": 0, "first_image": 0}))


def arm_key(run: Run) -> str:
    """Return what tells a run's arm from the others of its group: its regulariser, "" without one."""
    return canonical(run.train.regularizer) if run.train.regularizer else ""


def step_of(cell: PivotCell) -> int:
    """Return the step of training after which a cell was measured."""
    return cell.source.runs[0].evaluation.step
