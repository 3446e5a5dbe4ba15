"""What runs cost: device-hours, by their operations and the speed of a device, and bytes of checkpoints.

Each training is paid once. A speed is that of the study's earlier runs, or else an assumption.
"""

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from harness.checkpoint_paths import latest_step
from harness.config.grid import Run
from harness.config.imported_weights import Architecture, architecture_of
from harness.config.settings.process_settings import SamplerSettings
from harness.config.spec import EvalSpec, TrainSpec
from harness.errors import UserError, nearest
from harness.planning import flops, measuring_flops
from harness.planning.measuring_flops import reference_of
from harness.store.records import LOG, Attempt, Environment, Measurement, last_speeds, measurement_paths, read_spec
from harness.store.store import Store
from harness.store.study import runs_by_training

FLOAT = 4  # bytes
Arithmetic = Literal["bf16", "tf32", "fp32", "fp64"]

# Peak FLOP/s without sparsity, from NVIDIA's data sheets (the SXM modules where there are several); float64 by tensor
# cores where they have it.
GPUS: dict[str, dict[Arithmetic, float]] = {
    "A100": {"bf16": 312e12, "tf32": 156e12, "fp32": 19.5e12, "fp64": 19.5e12},
    "H100": {"bf16": 989e12, "tf32": 494e12, "fp32": 67e12, "fp64": 67e12},
    "H200": {"bf16": 989e12, "tf32": 494e12, "fp32": 67e12, "fp64": 67e12},
    "L40S": {"bf16": 362e12, "tf32": 183e12, "fp32": 91.6e12, "fp64": 1.43e12},
    "RTX4090": {"bf16": 165e12, "tf32": 82.6e12, "fp32": 82.6e12, "fp64": 1.29e12},
}
# Our assumption. What is not a matrix product waits for memory, and so weighs less where products take longer.
UTILISATION: dict[Arithmetic, float] = {"bf16": 0.3, "tf32": 0.4, "fp32": 0.6, "fp64": 0.6}
CORE = 20e9  # FLOP/s of a processor's core on the small networks that are trained there: our assumption


@dataclass(frozen=True)
class Assumption:
    """What is taken for the speed of a device that no earlier run has measured; utilisation None: `UTILISATION`.

    Raises:
        UserError: nothing is known of the GPU.
    """

    gpu: str = "H200"
    utilisation: float | None = None

    def __post_init__(self) -> None:
        if self.gpu not in GPUS:
            raise UserError(f"--gpu {self.gpu}: its peak is not known here{nearest(self.gpu, GPUS)}")

    def speed(self, arithmetic: Arithmetic, on_gpu: bool) -> float:
        """Return the FLOP/s of one GPU, or of one core."""
        if not on_gpu:
            return CORE
        return GPUS[self.gpu][arithmetic] * (self.utilisation or UTILISATION[arithmetic])

    def words_for(self, arithmetic: Arithmetic, on_gpu: bool) -> str:
        """Say what is assumed of a GPU, or of a core."""
        if not on_gpu:
            return f"{CORE / 1e9:g} GFLOP/s of a core"
        share, peak = self.utilisation or UTILISATION[arithmetic], GPUS[self.gpu][arithmetic]
        return f"{share:.0%} of the {self.gpu}'s {peak / 1e12:g} TFLOP/s in {arithmetic}"


class Work(NamedTuple):
    """What two runs must share for one to tell the other's speed."""

    sampling: bool
    on_gpu: bool
    arithmetic: Arithmetic
    network: Architecture


def work_of(train: TrainSpec, on_gpu: bool, sampler: SamplerSettings | None = None) -> Work:
    """Return the work of training a network, or of sampling from it."""
    full = sampler.matmul is None if sampler else train.matmul == "highest"
    float32: Arithmetic = "fp32" if full else "tf32"
    arithmetic = "bf16" if (sampler or train).precision == "bf16" else float32
    return Work(sampler is not None, on_gpu, arithmetic, architecture_of(train))


class MeasuredSpeeds:
    """FLOP/s of one device in the earlier runs of a study, by what they did; and the names of the devices."""

    def __init__(self, store: Store) -> None:
        self.speeds = defaultdict[Work, list[float]](list)
        self.devices = defaultdict[bool, dict[str, None]](dict)  # of GPUs (True) and of processors, in their order
        for folder in store.run_folders():
            with suppress(UserError):  # a folder that cannot be read tells nothing
                environment, train = Environment.read(folder), read_spec(folder)
                if environment and environment.last and train:
                    self._add(folder, train, environment.last)

    def _add(self, folder: Path, train: TrainSpec, attempt: Attempt) -> None:
        """Add what a run tells: the median of its log's last lines, and the times of its samplers."""
        rates = last_speeds(folder / LOG)[1:]  # the first line tells of the start
        if rates and len(flops.phases(train)) == 1:  # else nobody knows which of them were measured
            speed = statistics.median(rates) * flops.training(train) / attempt.devices
            self.speeds[work_of(train, attempt.on_gpu)].append(speed)
            self.devices[attempt.on_gpu][attempt.device] = None
        for measurement in map(Measurement.peek, measurement_paths(folder)):
            seconds = measurement.seconds.get("sample", 0.0) if measurement else 0.0
            if measurement and measurement.evaluation and seconds > 0:
                passes = measurement.protocol.generated * measurement.nfe
                speed = passes * flops.network(train).forward / seconds / attempt.devices
                self.speeds[work_of(train, attempt.on_gpu, measurement.evaluation.sampler)].append(speed)

    def median(self, work: Work) -> float | None:
        """Return the median speed of runs that did such work; None where there was none."""
        return statistics.median(self.speeds[work]) if work in self.speeds else None


@dataclass(frozen=True)
class Cost:
    """Device-hours, and bytes of checkpoints that stay. references: of what is made once of each reference."""

    training: float = 0.0
    sampling: float = 0.0
    measuring: float = 0.0
    bytes: int = 0
    references: float = 0.0

    @property
    def hours(self) -> float:
        """Device-hours of everything."""
        return self.training + self.sampling + self.measuring + self.references


class Prices:
    """What each step and each measurement of some runs costs.

    begun: the step of each training's checkpoint. done: the measurements that are there. reference: by measurement,
    what it is made against; whose own numbers cost nothing where one of them is done.
    """

    def __init__(self, runs: Sequence[Run], store: Store, assumption: Assumption) -> None:
        self.runs, self.assumption, self.trainings = runs, assumption, {run.train_id: run for run in runs}
        on_gpu = {run.resources.on_gpu for run in runs}
        self.unit = "device" if len(on_gpu) > 1 else "GPU" if True in on_gpu else "core"
        self.measured = MeasuredSpeeds(store)
        self.assumed: set[tuple[Arithmetic, bool]] = set()
        self.phases = {name: flops.phases(run.train) for name, run in self.trainings.items()}
        self.operation = {name: self._operation(run) for name, run in self.trainings.items()}
        self.sampling = {run.eval_id: self._sampling(run) for run in runs}
        self.measuring = {run.eval_id: self._measuring(run) for run in runs}
        self.reference = {run.eval_id: reference_of(run.train, run.evaluation.evaluation) for run in runs}
        self.once = {self.reference[run.eval_id]: self._once(run) for run in runs}
        self.begun = {name: latest_step(store.scratch_folder(name)) for name in self.trainings}
        self.done = {run.eval_id for run in runs if store.settled(run.train_id, run.eval_id)}

    def cost(self, runs: Iterable[Run], left: bool = False) -> Cost:
        """Return what runs cost together; left: only what is not done yet."""
        return self.cost_beyond(self.begun, self.done, runs) if left else self.cost_beyond({}, (), runs)

    def cost_beyond(self, begun: Mapping[str, int], done: Collection[str], runs: Iterable[Run]) -> Cost:
        """Return what runs cost together where some steps of trainings, and some measurements, cost nothing."""
        training, size, measurements = 0.0, 0, list[str]()
        for name, same in runs_by_training(run for run in runs if run.eval_id not in done).items():
            steps = {run.evaluation.step for run in same}
            training += max(0, self._steps(name, max(steps)) - self._steps(name, begun.get(name, 0)))
            size += checkpoint_bytes(self.trainings[name].train, steps)
            measurements += [run.eval_id for run in same]
        sampling, measuring = (sum(hours[name] for name in measurements) for hours in (self.sampling, self.measuring))
        made = {self.reference[name] for name in done if name in self.reference}
        new = dict.fromkeys(self.reference[name] for name in measurements if self.reference[name] not in made)
        return Cost(training, sampling, measuring, size, sum(self.once[reference] for reference in new))

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

    def _operation(self, run: Run) -> float:
        """Hours of one operation for each image of a training step."""
        return self._hours(run.train.batch, work_of(run.train, run.resources.on_gpu))

    def _steps(self, name: str, steps: int) -> float:
        """Hours of a training's first steps."""
        return self.operation[name] * flops.added_up(self.phases[name], steps)

    def _sampling(self, run: Run) -> float:
        """Hours of drawing the images of a measurement."""
        train, sampler = run.train, run.evaluation.sampler
        passes = flops.evaluations(sampler) * _drawn(run.evaluation)
        return self._hours(flops.network(train).forward * passes, work_of(train, run.resources.on_gpu, sampler))

    def _measuring(self, run: Run) -> float:
        """Hours of measuring them."""
        settings, train = run.evaluation.evaluation, run.train
        against = measuring_flops.each(settings.samples, reference_of(train, settings), train.data.classes)
        networks = measuring_flops.networks(settings.samples, train, settings.features)
        pairs = against + measuring_flops.copying(settings.samples, train, settings)
        return self._by(run, networks + measuring_flops.losses(train, settings), pairs)

    def _once(self, run: Run) -> float:
        """Hours of what is made once of the reference of a measurement."""
        reference = reference_of(run.train, run.evaluation.evaluation)
        return self._by(run, measuring_flops.networks_once(reference), measuring_flops.once(reference))

    def _by(self, run: Run, float32: int, float64: int) -> float:
        """Hours of operations in two arithmetics, of which no earlier run tells the speed."""
        on_gpu = run.resources.on_gpu
        speeds = self.assumption.speed("fp32", on_gpu), self.assumption.speed("fp64", on_gpu)
        return (float32 / speeds[0] + float64 / speeds[1]) / 3600

    def _hours(self, operations: float, work: Work) -> float:
        speed = self.measured.median(work)
        if speed is None:
            self.assumed.add((work.arithmetic, work.on_gpu))
            speed = self.assumption.speed(work.arithmetic, work.on_gpu)
        return operations / speed / 3600

    @property
    def words(self) -> str:
        """Say which speeds the prices rest on, and what is not in them."""
        works = [work_of(run.train, run.resources.on_gpu) for run in self.trainings.values()]
        measured = [work for work in works if self.measured.median(work)]
        kinds = {work.on_gpu for work in works}
        devices = ", ".join(dict.fromkeys(device for on_gpu in kinds for device in self.measured.devices[on_gpu]))
        parts = [f"{len(measured)} trainings by the images/s of earlier runs on {devices}"] if measured else []
        if self.assumed:
            words = [self.assumption.words_for(kind, on_gpu) for kind, on_gpu in sorted(self.assumed)]
            parts.append(f"{'the rest' if measured else 'all'} by assumption: {', '.join(dict.fromkeys(words))}")
        aligned = [run.train.alignment for run in self.trainings.values() if run.train.alignment]
        strange = sorted({term.encoder for term in aligned if flops.encoder(term) is None})
        parts += [f"without {name}, an encoder whose operations are not known here" for name in strange]
        silent = sorted({kind for run in self.trainings.values() for kind in flops.unpriced(run.train)})
        parts += [f"without the term {kind}, which does not say what it computes (work)" for kind in silent]
        return "Priced " + "; ".join([*parts, *self._measuring_words()])

    def _measuring_words(self) -> Iterator[str]:
        """Say what is assumed of measuring, reference by reference."""
        on_gpu = any(run.resources.on_gpu for run in self.runs)
        speeds = (self.assumption.words_for(kind, on_gpu) for kind in (("fp32", "fp64") if on_gpu else ("fp64",)))
        yield f"measuring by assumption: {', '.join(speeds)}"
        for reference, hours in self.once.items():
            name = f"{reference.dataset}/{reference.split}"
            if reference.images is None:
                yield f"without the pairs with {name}, whose size is not known here"
                continue
            part = f", shares against {reference.rows:,}" if reference.rows < reference.images else ""
            of = f"pairs of all samples with the {reference.images:,} images of {name} by {reference.width:,} features"
            yield f"{of}{part}; its own pairs once, by the first measurement ({hours:.2g} hours)"


def checkpoint_bytes(train: TrainSpec, steps: Collection[int]) -> int:
    """Return the bytes of a training's last state (network, average, both moments of AdamW) and of the weights (network
    and average) that are kept at some steps; of a second phase those of its soft tokens."""
    if train.soft_tokens:  # the frozen network is a file of the first phase
        return FLOAT * flops.soft_parameters(train) * (3 + len(steps))
    network = flops.parameters(train) + flops.tokens(train) * train.model.width  # the positions are stored as well
    projector = flops.term_parameters(train)
    moments = 2 * (flops.parameters(train) + projector)
    return FLOAT * (2 * network + projector + moments + 2 * network * len(steps))


def _drawn(evaluation: EvalSpec) -> int:
    """Return how many images are drawn for a measurement: whole tiles."""
    return evaluation.tile * len(evaluation.tiles)
