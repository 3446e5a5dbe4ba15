"""What runs cost: GPU-hours by their operations and a device's speed, and bytes of checkpoints; each training once."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from harness.checkpoint_paths import latest_step
from harness.config.grid import Run
from harness.config.spec import TILE, EvalSpec, TrainSpec
from harness.errors import UserError
from harness.planning import flops
from harness.planning.throughput import (
    Arithmetic,
    Assumption,
    measured_speeds,
    sampling_arithmetic,
    training_arithmetic,
)
from harness.store.store import Store
from harness.store.study import runs_by_training

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Cost:
    """Device-hours, and bytes of checkpoints that stay."""

    training: float = 0.0
    sampling: float = 0.0
    measuring: float = 0.0
    bytes: int = 0

    @property
    def hours(self) -> float:
        """Device-hours of everything."""
        return self.training + self.sampling + self.measuring


class Prices:
    """What each step and each measurement of some runs costs.

    begun: the step of each training's checkpoint. done: the measurements that are there.
    """

    def __init__(self, runs: Sequence[Run], store: Store, assumption: Assumption) -> None:
        self.runs, self.assumption, self.trainings = runs, assumption, {run.train_id: run for run in runs}
        on_gpu = {run.resources.on_gpu for run in runs}
        self.unit = "device" if len(on_gpu) > 1 else "GPU" if True in on_gpu else "core"
        self.speeds = measured_speeds(store)
        self.assumed: set[tuple[Arithmetic, bool]] = set()
        self.step = {name: self._step(run) for name, run in self.trainings.items()}
        self.measurement = {run.eval_id: self._measurement(run) for run in runs}
        self.begun = {name: latest_step(store.scratch_folder(name)) for name in self.trainings}
        self.done = {run.eval_id for run in runs if store.measured(run.train_id, run.eval_id)}

    def cost(self, runs: Iterable[Run], left: bool = False) -> Cost:
        """Return what runs cost together; left: only what is not done yet."""
        training, size, measurements = 0.0, 0, []
        for name, same in runs_by_training(run for run in runs if not (left and run.eval_id in self.done)).items():
            steps = {run.evaluation.step for run in same}
            training += self.step[name] * max(0, max(steps) - (self.begun[name] if left else 0))
            size += checkpoint_bytes(self.trainings[name].train, steps)
            measurements += [self.measurement[run.eval_id] for run in same]
        sampling, measuring = (sum(hours) for hours in zip(*measurements, strict=True)) if measurements else (0.0, 0.0)
        return Cost(training, sampling, measuring, size)

    def refuse_beyond(self, limit: float) -> None:
        """Refuse the runs where more than `limit` device-hours are left to do, each training counted once.

        Raises:
            UserError: there are more.
        """
        hours = self.cost(self.runs, left=True).hours
        if hours > limit:
            raise UserError(
                f"--max-gpu-hours {limit:g}: about {hours:,.1f} {self.unit}-hours are left to do; "
                f"'harness plan … --fit {limit:g}' proposes the rows that fit"
            )

    def _step(self, run: Run) -> float:
        """Hours of one training step."""
        train = run.train
        speed = self._training_speed(run) or self._assume(training_arithmetic(train), run)
        return train.batch * flops.training(train) / speed / 3600

    def _measurement(self, run: Run) -> tuple[float, float]:
        """Hours of drawing the images, and of measuring them."""
        train, settings = run.train, run.evaluation.evaluation
        known = self.speeds[run.resources.on_gpu].of_sampling(train, run.evaluation)
        speed = known or self._assume(sampling_arithmetic(run.evaluation), run)
        passes = flops.evaluations(train.process, run.evaluation.sampler) * _drawn(run.evaluation)
        measuring = settings.samples * flops.measuring(train, settings.features)
        measured = measuring / self.assumption.speed("fp32", run.resources.on_gpu)
        return flops.network(train).forward * passes / speed / 3600, measured / 3600

    @property
    def words(self) -> str:
        """Say which speeds the prices rest on, and what is not in them."""
        runs = self.trainings.values()
        measured = [run for run in runs if self._training_speed(run)]
        kinds = {run.resources.on_gpu for run in runs}
        devices = ", ".join(dict.fromkeys(device for on_gpu in kinds for device in self.speeds[on_gpu].devices))
        parts = [f"{len(measured)} trainings by the images/s of earlier runs on {devices}"] if measured else []
        if self.assumed:
            words = [self.assumption.words_for(kind, on_gpu) for kind, on_gpu in sorted(self.assumed)]
            parts.append(f"{'the rest' if measured else 'all'} by assumption: {', '.join(dict.fromkeys(words))}")
        aligned = [run.train.alignment for run in runs if run.train.alignment]
        strange = sorted({term.encoder for term in aligned if flops.encoder(term) is None})
        parts += [f"without {name}, an encoder whose operations are not known here" for name in strange]
        return "Priced " + "; ".join(parts)

    def _training_speed(self, run: Run) -> float | None:
        """FLOP/s of a device in earlier trainings of the same shape."""
        return self.speeds[run.resources.on_gpu].of_training(run.train)

    def _assume(self, arithmetic: Arithmetic, run: Run) -> float:
        on_gpu = run.resources.on_gpu
        self.assumed.add((arithmetic, on_gpu))
        return self.assumption.speed(arithmetic, on_gpu)


def checkpoint_bytes(train: TrainSpec, steps: Collection[int]) -> int:
    """Return the bytes of a training's last state (network, average, both moments of AdamW) and of the weights (network
    and average) that are kept at some steps."""
    network = flops.parameters(train) + flops.tokens(train) * train.model.width  # the positions are stored as well
    projector = flops.projector_parameters(train)
    moments = 2 * (flops.parameters(train) + projector)
    return FLOAT * (2 * network + projector + moments + 2 * network * len(steps))


def _drawn(evaluation: EvalSpec) -> int:
    """Return how many images are drawn for a measurement: whole tiles."""
    first, stop = evaluation.first_image, evaluation.first_image + evaluation.evaluation.samples
    return TILE * ((stop - 1) // TILE - first // TILE + 1)
