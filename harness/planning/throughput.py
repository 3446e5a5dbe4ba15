"""How fast a device works through operations: as earlier runs of a study measured it, else as is assumed."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.config.spec import EvalSpec, Model, Process, TrainSpec
from harness.planning import flops
from harness.store.records import LOG, Environment, MeasurementFile, measurement_paths, read_spec
from harness.store.store import Store
from harness.store.training_log import last_speeds

Arithmetic = Literal["bf16", "tf32", "fp32"]
Shape = tuple[Process, Model, int, int, Arithmetic]

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
    """What is taken for the speed of a device that no earlier run has measured; utilisation None: `UTILISATION`."""

    gpu: str = "H200"
    utilisation: float | None = None

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


@dataclass(frozen=True)
class Measured:
    """FLOP/s of one device in earlier runs, by the network's shape, and the devices' names."""

    training: dict[Shape, float] = field(default_factory=dict)
    sampling: dict[Shape, float] = field(default_factory=dict)
    devices: tuple[str, ...] = ()


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


def measured(store: Store, gpus: bool) -> Measured:
    """Return what the runs of a study tell: the median of each log's last lines, and the samplers' times.

    gpus: whether runs on GPUs, or those on processors, are asked.
    """
    training: dict[Shape, list[float]] = {}
    sampling: dict[Shape, list[float]] = {}
    names: dict[str, None] = {}
    for folder in store.run_folders():
        environment = Environment.read(folder)
        attempt = environment.last if environment else None
        train = read_spec(folder) if attempt and attempt.on_gpu == gpus else None
        if attempt is None or train is None:
            continue
        rates = last_speeds(folder / LOG)[1:]  # the first line tells of the start
        if rates:
            speed = statistics.median(rates) * flops.training(train) / attempt.devices
            training.setdefault(shape(train, training_arithmetic(train)), []).append(speed)
            names[attempt.device] = None
        for arithmetic, speed in _sampling(folder, train):
            sampling.setdefault(shape(train, arithmetic), []).append(speed / attempt.devices)
    return Measured(_medians(training), _medians(sampling), tuple(names))


def _medians(speeds: dict[Shape, list[float]]) -> dict[Shape, float]:
    return {key: statistics.median(found) for key, found in speeds.items()}


def _sampling(folder: Path, train: TrainSpec) -> Iterator[tuple[Arithmetic, float]]:
    """Yield the FLOP/s of each measurement's sampling."""
    for measurement in map(MeasurementFile.read, measurement_paths(folder)):
        seconds = measurement.seconds.get("sample", 0.0) if measurement else 0.0
        if measurement and measurement.evaluation and seconds > 0:
            images = measurement.protocol.generated
            speed = images * measurement.nfe * flops.network(train).forward / seconds
            yield sampling_arithmetic(measurement.evaluation), speed
