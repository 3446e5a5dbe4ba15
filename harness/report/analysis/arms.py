"""Arms that can be ranked: trainings that differ in regulariser and seed alone, and what is known of them early."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.config.grid import Run
from harness.config.spec import canonical
from harness.report.analysis.pivot import Pivot
from harness.report.analysis.text import counted
from harness.store.records import MeasurementFile
from harness.store.store import Store
from harness.store.training_log import Logs

LOGGED = {
    "denoising": "denoising loss",
    "above_floor": "regulariser above its floor",
    "gradient_norm": "norm of the gradient",
}
LEAST_ARMS = 4
Values = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Arm:
    """One setting of the regulariser: its trainings by seed; its measurements and their values by step and seed."""

    trainings: dict[int, str] = field(default_factory=dict)
    measurements: dict[int, dict[int, str]] = field(default_factory=dict)
    values: dict[int, dict[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """Trainings that differ in their regulariser and seed alone, measured in one way; `steps` is of the longest."""

    title: str
    steps: int
    arms: tuple[Arm, ...]


def families(pivots: Sequence[Pivot]) -> list[Family]:
    """Group the measured runs of a study into families of at least four arms at their longest training."""
    groups: dict[tuple[str, str], dict[str, Arm]] = {}
    models: dict[tuple[str, str], str] = {}
    for pivot in pivots:
        asked = {run.eval_id: (run, cell.settings.model) for cell in pivot.table.cells for run in cell.runs}
        for state in (state for cell in pivot.cells for state in cell.runs if state.value is not None):
            run, model = asked[state.eval_id]
            key = _key(run)
            models.setdefault(key, model)
            regularizer = canonical(run.train.regularizer) if run.train.regularizer else ""
            arm = groups.setdefault(key, {}).setdefault(regularizer, Arm())
            arm.trainings[run.seed] = run.train_id
            arm.measurements.setdefault(run.evaluation.step, {})[run.seed] = run.eval_id
            arm.values.setdefault(run.evaluation.step, {})[run.seed] = state.value or 0.0
    return [family for key, arms in groups.items() if (family := _family(models[key], list(arms.values())))]


def _key(run: Run) -> tuple[str, str]:
    """What all arms of a family share: the training without regulariser and seed, the measurement without its step."""
    train = run.train.model_copy(update={"regularizer": None, "seed": 0})
    return canonical(train), canonical(run.evaluation.model_copy(update={"step": 0, "first_image": 0}))


def _family(model: str, arms: Sequence[Arm]) -> Family | None:
    lengths = sorted({step for arm in arms for step in arm.values}, reverse=True)
    for steps in lengths:
        whole = tuple(arm for arm in arms if steps in arm.values)
        if len(whole) >= LEAST_ARMS:
            return Family(f"{model}, {counted(steps, 'step')}, {counted(len(whole), 'arm')}", steps, whole)
    return None


def logged_values(logs: Logs, family: Family, step: float) -> Iterator[tuple[str, list[Values]]]:
    """Yield each number of the training logs with its last value up to a step, arm by arm and seed by seed."""
    for key, words in LOGGED.items():
        yield words, [_logged_value(logs, arm, key, step) for arm in family.arms]


def _logged_value(logs: Logs, arm: Arm, key: str, step: float) -> Values:
    """The last value of each log up to a step, by seed; a log without the number gives none."""
    series = {seed: logs.of(name).of(key) for seed, name in arm.trainings.items()}
    known = {seed: bisect_right(one, step, key=lambda logged: logged[0]) for seed, one in series.items()}
    return {seed: series[seed][count - 1][1] for seed, count in known.items() if count}


def of_fewer_images(store: Store, family: Family) -> tuple[int, list[Values]]:
    """Return the smallest number of images for which measurements kept FID, and FID of so many, arm by arm and seed."""
    kept = [
        {seed: _by_count(store, arm, family.steps, seed) for seed in arm.values[family.steps]} for arm in family.arms
    ]
    count = min((count for arm in kept for values in arm.values() for count in values), default=0)
    return count, [{seed: values[count] for seed, values in arm.items() if count in values} for arm in kept]


def _by_count(store: Store, arm: Arm, step: int, seed: int) -> dict[int, float]:
    """FID by number of images; empty where the measurement kept none."""
    measurement = MeasurementFile.read(store.eval_path(arm.trainings[seed], arm.measurements[step][seed]))
    return measurement.fid_by_count if measurement else {}
