"""What a person sees on the terminal: plans, prices, how trainings stand, and the bar while a grid runs."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from harness.commands.terminal import Listing, TextTable, console, show, show_note
from harness.config.grid import Run, Table
from harness.config.spec import eval_id
from harness.jobs.job import Job
from harness.metric_definitions import definition_of
from harness.planning import budget, cost, plan
from harness.store.records import LOG, Heartbeat, Measurement, early_overshoot, finite
from harness.store.status import RunStatus, State, TrainingStatus, seconds_in_words
from harness.store.store import Store

# By urgency.
COLOURS: dict[State, str] = {
    "running": "cyan", "starting": "cyan", "failed": "red", "diverged": "red", "unreadable": "red", "held": "red",
    "suspended": "yellow", "interrupted": "yellow", "unknown": "yellow", "ending": "yellow", "waiting": "blue",
    "not run": "dim", "done": "green",
}  # fmt: skip
URGENCY = tuple(COLOURS)
FAILED = ("failed", "diverged", "unreadable")


# Plans.


def print_plan(tables: Sequence[Table], store: Store, failed: bool = False) -> bool:
    """Print every run, table by table, and how many there are in each state; return whether all are done.

    failed: print only those that failed.
    """
    planned = plan.plan(tables, store)
    show(*(_of_table([p for p in planned if p.table is table], failed) for table in tables))
    states = Counter(p.status.state for p in planned)
    trainings = len({p.run.train_id for p in planned})
    show_note(f"{trainings} distinct trainings; {', '.join(f'{count} {state}' for state, count in states.items())}")
    return set(states) <= {"done"}


def print_next(done: bool, study: str, words: str) -> None:
    """Print what to do with a study next; words: what does it where something is left."""
    show_note(f"Next: harness report {study}" if done else f"Next: {words}")


def _of_table(planned: Sequence[plan.Planned], failed: bool) -> Listing:
    rows = [_run_row(p) for p in planned if not failed or p.status.state in FAILED]
    dropped = ("measurement", "model", "steps", "table", "shared with")
    return Listing(plan.summary(planned), rows, {"cell": 24, "why": 8}, dropped)


def _run_row(p: plan.Planned) -> dict[str, str]:
    run, cell = p.run, p.table.cell(p.run.at)
    return {
        "table": p.table.name, "cell": _in_words(run.at), "seed": str(run.seed),
        "model": cell.settings.model if cell else "", "steps": f"{run.evaluation.step:,}", "training": run.train_id,
        "measurement": run.eval_id, "why": p.why, "shared with": ", ".join(p.shared_with),
    }  # fmt: skip


def _in_words(at: Sequence[tuple[str, str]]) -> str:
    return " · ".join(label for _, label in at)


# Prices.


def print_cost(tables: Sequence[Table], prices: cost.Prices, price: float | None) -> None:
    """Print what each table and all of them cost; price: of one device-hour, in whatever currency."""
    rows = [_cost_row(table.name, table.runs, prices) for table in tables]
    if len(tables) > 1:
        rows.append(_cost_row("all", prices.runs, prices))
    once = "; of all, each training once" if len(tables) > 1 else ""
    show(Listing(f"Cost in {prices.unit}-hours{once}", rows, {}, ("checkpoints", "references")))
    left = prices.cost(prices.runs, left=True).hours
    money = f"; at {price:g} an hour, what is left costs {left * price:,.0f}" if price else ""
    show_note(f"{prices.words}{money}")


def _cost_row(name: str, runs: Sequence[Run], prices: cost.Prices) -> dict[str, str]:
    whole, left = prices.cost(runs), prices.cost(runs, left=True)
    parts = whole.training, whole.sampling, whole.measuring, whole.references, whole.hours, left.hours
    headings = ("training", "sampling", "measuring", "references", "hours", "left")
    hours = map(hours_in_words, parts)
    row = {"table": name, "trainings": str(len({run.train_id for run in runs}))}
    return row | dict(zip(headings, hours, strict=True)) | {"checkpoints": f"{whole.bytes / 1e9:,.1f} GB"}


def hours_in_words(hours: float) -> str:
    """Return hours with about three digits: "5,230", "12.3", "0.041"."""
    if hours >= 100:
        return f"{hours:,.0f}"
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def print_selection(selection: budget.Selection, prices: cost.Prices, hours: float) -> None:
    """Print which rows a budget buys, and which it leaves out."""
    screen, count = console(), len(selection.chosen) + len(selection.left_out)
    spent = f"{hours_in_words(selection.hours)} of {hours:g} {prices.unit}-hours"
    screen.print(f"\n{len(selection.chosen)} of {count} rows fit: {spent}", _rows(selection.chosen), sep="\n")
    if selection.left_out:
        screen.print(f"\n{len(selection.left_out)} rows are left out", _rows(selection.left_out), sep="\n")
    rule = "always the row next that costs least beyond what is bought, with its baseline and all seeds"
    screen.print(f"\nThe rule: {rule}.")


def _rows(rows: Sequence[budget.Row]) -> TextTable:
    return TextTable("", [{"table": row.table.name, "row": _in_words(row.cell.at)} for row in rows])


# How trainings stand.


def print_status(study: str, statuses: Sequence[TrainingStatus], failed: bool = False) -> None:
    """Print how each training stands, and how many of each table do so; failed: only those that failed."""
    show(status_listing(study, [s for s in statuses if not failed or s.state in FAILED]))
    for name in dict.fromkeys(name for s in statuses for name in s.tables):
        show_note(f"{name}: {_states([s for s in statuses if name in s.tables])}")
    warned: dict[str, list[TrainingStatus]] = {}
    for s in statuses:
        if s.warning:
            warned.setdefault(f"{s.labels}, {s.model}", []).append(s)
    for arm, those in warned.items():
        show_note(
            f"{arm}: {those[0].warning} (seed {those[0].seed}; {len(those)} seeds have such a warning)", whole=True
        )


def status_listing(study: str, statuses: Sequence[TrainingStatus], most: int | None = None) -> Listing:
    """Return all trainings, or as many as `most`: the running ones first, then what needs somebody, then the rest."""
    shown = statuses
    if most is not None and len(statuses) > most:
        shown = sorted(statuses, key=lambda s: URGENCY.index(s.state))[:most]
    cropped, dropped = {"what": 16, "reason": 16}, ("images/s", "hours", "tables", "model", "step", "left")
    return Listing(f"{study}: {status_summary(statuses)}", list(map(_status_row, shown)), cropped, dropped)


def status_summary(statuses: Sequence[TrainingStatus]) -> str:
    """Return how many trainings and measurements are in which state, and what was spent."""
    spent: dict[str, float] = {}
    for s in statuses:
        spent[s.unit] = spent.get(s.unit, 0.0) + s.hours
    parts = [
        _states(statuses),
        f"{sum(s.measured for s in statuses)} of {sum(s.measurements for s in statuses)} measurements",
    ]
    return ", ".join(parts + [f"{hours_in_words(hours)} {unit}-hours spent" for unit, hours in spent.items()])


def _states(statuses: Sequence[TrainingStatus]) -> str:
    states = Counter(s.state for s in statuses)
    return ", ".join(f"{states[state]} {state}" for state in URGENCY if states[state])


def _status_row(s: TrainingStatus) -> dict[str, str | Text]:
    return {
        "training": s.train_id, "model": s.model, "what": s.labels, "seed": str(s.seed),
        "state": Text(s.state, COLOURS[s.state]), "measured": f"{s.measured}/{s.measurements}",
        "step": f"{s.step}/{s.steps}", "left": "" if s.seconds_left is None else seconds_in_words(s.seconds_left),
        "images/s": "" if s.images_per_second is None else f"{s.images_per_second:.0f}",
        "hours": hours_in_words(s.hours) if s.hours else "", "tables": ", ".join(s.tables),
        "reason": " ".join((s.phase if s.state == "running" else s.reason).split()),
    }  # fmt: skip


# While a grid runs.


class ProgressBar(Progress):
    """A bar over training steps, fed by the jobs' own heartbeats, below a line for each job that has ended."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.total, self.noun = len(jobs), "jobs" if any(job.part.words for job in jobs) else "trainings"
        self.running: dict[tuple[str, str], tuple[Job, float]] = {}  # with the clock at its start
        self.ended: list[Job] = []
        self.lock = threading.Lock()
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console(soft_wrap=True), refresh_per_second=2,
        )  # fmt: skip
        self.add_task("", total=sum(map(_length, jobs)))

    def get_renderables(self) -> Iterable[RenderableType]:
        """Look how far the jobs are, and draw that."""
        with self.lock:
            running, ended = [job for job, _ in self.running.values()], list(self.ended)
        heartbeats = [Heartbeat.peek(job.folder) for job in running if job.part.stage == 0]
        steps = sum(map(_length, ended)) + sum(heartbeat.step for heartbeat in heartbeats if heartbeat)
        for bar in self.task_ids:
            self.update(bar, completed=steps, description=f"{len(ended)}/{self.total} {self.noun}{_warned(running)}")
        yield from super().get_renderables()

    def on_change(self, job: Job, outcome: RunStatus | None) -> None:
        """Hear that a job has started (None) or how it ended."""
        with self.lock:
            if outcome is None:
                self.running[job.train_id, job.part.name] = job, time.monotonic()
                return
            _, start = self.running.pop((job.train_id, job.part.name), (job, time.monotonic()))
            self.ended.append(job)
            count = len(self.ended)
        end = f"{outcome.state}: {outcome.words}" if outcome.reason else f"{outcome.state}{_value(job)}"
        end += f", {seconds_in_words(time.monotonic() - start)}"
        words = ", ".join(filter(None, (f"{job.train_id} {_arm_in_words(job)}, seed {job.train.seed}", job.part.words)))
        self.console.print(f"{count}/{self.total} {words}: {end}")
        if warning := early_overshoot(job.folder / LOG):
            self.console.print(f"  {warning.words}")


def _warned(running: Sequence[Job]) -> str:
    """Return the warning of the first training under way that has one, as the bar shows it."""
    warnings = (early_overshoot(job.folder / LOG) for job in running if job.part.stage == 0)
    return next((f", {peak.words.partition(';')[0]}" for peak in warnings if peak), "")


def _length(job: Job) -> int:
    """Training steps of a job, and one more for what comes after them."""
    return job.steps + 1 if job.part.stage == 0 else 1


def _value(job: Job) -> str:
    """Return the first number of a training's last measurement, as ": FID 1.37"."""
    last = max(job.evaluations, key=lambda evaluation: evaluation.step)
    measurement = Measurement.peek(job.store.eval_path(job.train_id, eval_id(job.train_id, last)))
    numbers = ((name, finite(value)) for name, value in (measurement.metrics if measurement else {}).items())
    for name, value in numbers:
        if value is not None:
            return f": {definition_of(name).title} {value:.{definition_of(name).decimals}f}"
    return ""


def _arm_in_words(job: Job) -> str:
    regularizer, alignment = job.train.regularizer, job.train.alignment
    words = (regularizer.kind, regularizer.loss, regularizer.noise) if regularizer else ()
    aligned = f"aligned with {alignment.encoder}" if alignment else ""
    terms = [term.name for term in job.train.terms or ()] + ["soft tokens"] * bool(job.train.soft_tokens)
    return " + ".join(filter(None, (" ".join(filter(None, words)), aligned, *terms))) or "baseline"
