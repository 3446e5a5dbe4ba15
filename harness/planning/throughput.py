"""How fast a device works through operations: as earlier runs of a study measured it, else as is assumed."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.config.spec import EvalSpec, Model, ProcessName, TrainSpec
from harness.errors import UserError, nearest
from harness.planning import flops
from harness.store.records import LOG, Attempt, Environment, Measurement, last_speeds, measurement_paths, read_spec
from harness.store.store import Store

Arithmetic = Literal["bf16", "tf32", "fp32"]
Shape = tuple[ProcessName, Model, int, int, Arithmetic]

# Peak FLOP/s without sparsity, from NVIDIA's data sheets (the SXM modules where there are several).
GPUS: dict[str, dict[Arithmetic, float]] = {
    "A100": {"bf16": 312e12, "tf32": 156e12, "fp32": 19.5e12},
    "H100": {"bf16": 989e12, "tf32": 494e12, "fp32": 67e12},
    "H200": {"bf16": 989e12, "tf32": 494e12, "fp32": 67e12},
    "L40S": {"bf16": 362e12, "tf32": 183e12, "fp32": 91.6e12},
    "RTX4090": {"bf16": 165e12, "tf32": 82.6e12, "fp32": 82.6e12},
}
# Our assumption. What is not a matrix product waits for memory, and so weighs less where products take longer.
UTILISATION: dict[Arithmetic, float] = {"bf16": 0.3, "tf32": 0.4, "fp32": 0.6}
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


def training_arithmetic(train: TrainSpec) -> Arithmetic:
    """Return in which numbers a training's products are made."""
    if train.precision == "bf16":
        return "bf16"
    return "fp32" if train.matmul == "highest" else "tf32"


def sampling_arithmetic(evaluation: EvalSpec) -> Arithmetic:
    """Return in which numbers a sampler's products are made: torch's own float32 where it is not bf16."""
    return "bf16" if evaluation.sampler.precision == "bf16" else "fp32"


def shape(train: TrainSpec, arithmetic: Arithmetic) -> Shape:
    """Return what two runs must share for one to tell the other's speed."""
    return train.process, train.model, train.data.channels, train.data.size, arithmetic


@dataclass(frozen=True)
class Speeds:
    """FLOP/s of one device in earlier runs, by the network's shape, and the devices' names."""

    training: dict[Shape, list[float]] = field(default_factory=lambda: defaultdict(list))
    sampling: dict[Shape, list[float]] = field(default_factory=lambda: defaultdict(list))
    devices: dict[str, None] = field(default_factory=dict)

    def of_training(self, train: TrainSpec) -> float | None:
        """Return the median speed of trainings of the same shape; None where there was none."""
        return _median(self.training.get(shape(train, training_arithmetic(train))))

    def of_sampling(self, train: TrainSpec, evaluation: EvalSpec) -> float | None:
        """Return the median speed of sampling from networks of the same shape; None where there was none."""
        return _median(self.sampling.get(shape(train, sampling_arithmetic(evaluation))))

    def add(self, folder: Path, train: TrainSpec, attempt: Attempt) -> None:
        """Add what a run tells: the median of its log's last lines, and the times of its samplers."""
        if rates := last_speeds(folder / LOG)[1:]:  # the first line tells of the start
            speed = statistics.median(rates) * flops.training(train) / attempt.devices
            self.training[shape(train, training_arithmetic(train))].append(speed)
            self.devices[attempt.device] = None
        for measurement in map(Measurement.read, measurement_paths(folder)):
            seconds = measurement.seconds.get("sample", 0.0) if measurement else 0.0
            if measurement and measurement.evaluation and seconds > 0:
                passes = measurement.protocol.generated * measurement.nfe
                speed = passes * flops.network(train).forward / seconds / attempt.devices
                self.sampling[shape(train, sampling_arithmetic(measurement.evaluation))].append(speed)


def _median(speeds: Sequence[float] | None) -> float | None:
    return statistics.median(speeds) if speeds else None


def measured_speeds(store: Store) -> dict[bool, Speeds]:
    """Return what the runs of a study tell of GPUs (True) and of processors (False)."""
    speeds = {True: Speeds(), False: Speeds()}
    for folder in store.run_folders():
        environment, train = Environment.read(folder), read_spec(folder)
        if environment and environment.last and train:
            speeds[environment.last.on_gpu].add(folder, train, environment.last)
    return speeds
