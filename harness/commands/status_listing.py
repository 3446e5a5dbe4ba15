"""How a study's trainings stand as a table of the terminal, as words of one line, and as JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table as Grid
from rich.text import Text

from harness.commands.console import grid
from harness.commands.cost_listing import hours_in_words
from harness.store.store import State
from harness.store.study import TrainingStatus, duration

HEADINGS = ("training", "what", "seed", "state", "progress", "epoch", "step", "images/s", "left", "hours", "reason")
COLOURS: dict[State, str] = {
    "done": "green", "running": "cyan", "failed": "red", "diverged": "red", "unreadable": "red",
    "interrupted": "yellow", "not run": "dim",
}  # fmt: skip
URGENCY: tuple[State, ...] = ("running", "failed", "diverged", "unreadable", "interrupted", "not run", "done")
BAR = 10


def table(study: str, statuses: Sequence[TrainingStatus], most: int | None = None) -> Grid | Text:
    """Return all trainings, or as many as `most`: the running ones first, then what needs somebody, then the rest."""
    shown = statuses
    if most is not None and len(statuses) > most:
        shown = sorted(statuses, key=lambda s: URGENCY.index(s.state))[:most]
    return grid(f"{study}: {summary(statuses)}", HEADINGS, [_row(status) for status in shown])


def summary(statuses: Sequence[TrainingStatus]) -> str:
    """Return how many trainings and measurements are in which state, and what was spent."""
    states = Counter(status.state for status in statuses)
    spent = Counter[str]()
    for status in statuses:
        spent[status.unit] += status.hours  # type: ignore[assignment]
    measured, wanted = sum(s.measured for s in statuses), sum(s.measurements for s in statuses)
    said = [f"{states[state]} {state}" for state in URGENCY if states[state]]
    said += [f"{measured} of {wanted} measurements"]
    return ", ".join(said + [f"{hours_in_words(hours)} {unit}-hours spent" for unit, hours in spent.items()])


def in_json(study: str, statuses: Sequence[TrainingStatus]) -> str:
    """Return everything that is known of every training."""
    return json.dumps({"study": study, "trainings": [asdict(s) for s in statuses]}, indent=1, ensure_ascii=False)


def _row(s: TrainingStatus) -> list[str | Text]:
    words = f"{s.model} {s.words}"
    speed = "" if s.images_per_second is None else f"{s.images_per_second:,.0f}"
    left = "" if s.seconds_left is None else duration(s.seconds_left)
    reason = s.phase if s.state == "running" else s.reason
    return [
        s.train_id, words, str(s.seed), Text(s.state, COLOURS[s.state]), _bar(s), f"{s.epoch:,.3g}/{s.epochs:,.3g}",
        f"{s.step:,}/{s.steps:,}", speed, left, hours_in_words(s.hours) if s.hours else "", " ".join(reason.split()),
    ]  # fmt: skip


def _bar(s: TrainingStatus) -> str:
    """Return the share of the training as a bar, and how many of its measurements are made."""
    share = s.step / s.steps if s.steps else 1.0
    full = int(share * BAR)
    return f"{'█' * full}{'░' * (BAR - full)} {s.measured}/{s.measurements}"
