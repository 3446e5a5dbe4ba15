"""How far a study is, from its folders alone: measurements done, training steps done, and the time left."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.config.grid import Run, Table
from harness.report.analysis.text import counted
from harness.store.store import Store

HOUR, MINUTE = 3600, 60


@dataclass(frozen=True)
class Progress:
    """Steps done of those asked for, and measurements by state. What failed or diverged counts as ended."""

    steps: int
    all_steps: int
    states: dict[str, int]

    @property
    def share(self) -> float:
        """Steps done of those asked for, from 0 to 1."""
        return self.steps / self.all_steps if self.all_steps else 1.0

    def seconds_left(self, before: "Progress", seconds: float) -> float | None:
        """Return the seconds left at the pace since `before`, `seconds` ago; None where nothing has moved."""
        moved = self.steps - before.steps
        return (self.all_steps - self.steps) * seconds / moved if moved > 0 and seconds > 0 else None

    def words(self, left: float | None) -> str:
        """Return "12 of 26 measurements done, 1 running, about 3 min left"."""
        total, states = sum(self.states.values()), dict(self.states)
        parts = [f"{states.pop('done', 0):,} of {counted(total, 'measurement')} done"]
        parts += [f"{count:,} {state}" for state, count in sorted(states.items())]
        if self.steps < self.all_steps:
            parts.append("time left not known yet" if left is None else f"about {duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return "40 s", "3 min", "2 h 05 min"."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:02.0f} min"


def progress(store: Store, tables: Sequence[Table]) -> Progress:
    """Read how far the runs of the tables are, each training and each measurement once."""
    wanted: dict[str, dict[str, Run]] = {}
    for table in tables:
        for run in table.runs:
            wanted.setdefault(run.train_id, {})[run.eval_id] = run
    states: Counter[str] = Counter()
    steps = all_steps = 0
    for runs in wanted.values():
        found = [(run, store.status(run.train_id, run.eval_id)) for run in runs.values()]
        states.update(status.state for _, status in found)
        longest = max(run.evaluation.step for run in runs.values()) + 1  # measuring counts as one more
        all_steps += longest
        ended = all(status.state in ("done", "failed", "diverged") for _, status in found)
        steps += longest if ended else max(min(status.step or 0, longest - 1) for _, status in found)
    return Progress(steps, all_steps, dict(states))
