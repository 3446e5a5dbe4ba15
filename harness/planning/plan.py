"""What would run, what is done, and what several tables share."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.config.grid import Run, Table
from harness.store.status import RunStatus, checked_status
from harness.store.store import Store


@dataclass(frozen=True)
class Planned:
    """One run of a plan and why it is there."""

    table: Table
    run: Run
    status: RunStatus
    shared_with: tuple[str, ...]

    @property
    def why(self) -> str:
        """Say in words why it would run, or that it would not."""
        state, reason = self.status.state, f" ({self.status.reason})" if self.status.reason else ""
        words = {"done": "done", "running": f"running: {self.status.words}", "not run": "to run"}
        return words.get(state, f"to run again: {state}{reason}")


def plan(tables: Sequence[Table], store: Store) -> list[Planned]:
    """Return every run of the tables with its status and the other tables that want the same training."""
    tables_of = defaultdict[str, dict[str, None]](dict)  # those that want a training, in their order
    for table in tables:
        for run in table.runs:
            tables_of[run.train_id][table.name] = None

    def planned(table: Table, run: Run) -> Planned:
        sharing = tuple(name for name in tables_of[run.train_id] if name != table.name)
        return Planned(table, run, checked_status(store, run), sharing)

    return [planned(table, run) for table in tables for run in table.runs]


def summary(planned: Sequence[Planned]) -> str:
    """Return a table's plan in one sentence."""
    table, trainings = planned[0].table, {p.run.train_id: p.run for p in planned}
    models = " and ".join(sorted({cell.settings.model for cell in table.cells}))
    steps = " and ".join(f"{n:,}" for n in sorted({p.run.evaluation.step for p in planned}))
    batches = " and ".join(str(n) for n in sorted({run.train.batch for run in trainings.values()}))
    here = f"; {table.stand_ins}" if table.stand_ins else ""
    seeds = f"{len(table.seeds)} seeds" if len(table.seeds) > 1 else "1 seed"
    return (
        f"{table.name_in_words} at {table.scale.scale}: {len(table.cells)} cells × {seeds} = "
        f"{len(planned)} runs of {models}, {steps} steps of {batches}; {len(trainings)} trainings{here}"
    )
