"""The files of a run: one model for each, by which it is written and read, here and nowhere else.

    spec.json          `write_spec`, `read_spec`: what is trained
    env.json           `Environment`: where and with what it ran, attempt by attempt
    train.jsonl        `training_log`: a line of numbers every so many steps
    heartbeat.json     `Heartbeat`: present while a job is at work
    error.json         `Failure`: present after a failure
    facts.json         `ModelFacts`: what only torch can know of the networks
    evals/<id>.json    `Measurement`, and `MeasurementFile` for all that is in it
    probe-<step>.json  `Probe`: what a checkpoint's representations are like

Each JSON file says its `schema_version`; one without it is older than the first version. What an older file lacks has
the default that its model names, which is what was true when it was written. A file of a newer version is refused: its
numbers may mean something else. A line of the log has numbers by name and no version; a name that is missing was not
logged.
"""

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.config.spec import EvalSpec, TrainSpec
from harness.errors import UserError
from harness.files import read_json, write_json

SCHEMA_VERSION = 1
SPEC, LOG = "spec.json", "train.jsonl"
HEARTBEAT_SECONDS = 5.0
HEARTBEAT_STALE_SECONDS = 60.0
GPU_NAMES = ("NVIDIA", "Tesla", "AMD Instinct", "AMD Radeon")  # as torch names them; processors are others

FailureClass = Literal[
    "out of memory", "time limit", "preempted", "node", "disk full", "diverged", "bad data", "bug", "cancelled",
    "killed",
]  # fmt: skip
Scalar = str | int | float | bool | None


class DamagedRecord(UserError):
    """A file of a run that is not whole, or does not hold what it should."""


class NewerRecord(UserError):
    """A file of a run that a newer harness has written."""


class Record(BaseModel):
    """A JSON file of a run. place: its run's folder, or the file itself where a run has several of the kind."""

    FILE: ClassVar[str] = ""
    model_config = ConfigDict(frozen=True, validate_by_name=True)

    schema_version: int = 0

    @classmethod
    def load(cls, place: Path) -> Self | None:
        """Return what a file holds; None where it is missing.

        Raises:
            DamagedRecord: it is not such a file.
            NewerRecord: a newer harness has written it.
            OSError: it cannot be read.
        """
        path = place / cls.FILE
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            record = cls.model_validate_json(content)
        except ValidationError as error:
            _refuse_newer(path, read_json(path))
            raise DamagedRecord(f"{_short(path)}{_what(error)}") from None
        _refuse_newer(path, {"schema_version": record.schema_version})
        return record

    @classmethod
    def read(cls, place: Path) -> Self | None:
        """Return what a file holds; None where it is missing or damaged.

        Raises:
            NewerRecord, OSError: as `load`.
        """
        try:
            return cls.load(place)
        except DamagedRecord:
            return None

    def write(self, place: Path) -> None:
        """Write the file, with the fields that were given."""
        content = self.model_dump(by_alias=True, exclude_unset=True, exclude={"schema_version"})
        write_json(place / self.FILE, {"schema_version": SCHEMA_VERSION} | content)


def _refuse_newer(path: Path, content: Any) -> None:
    version = content.get("schema_version", 0) if isinstance(content, dict) else 0
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerRecord(
            f"{_short(path)} has schema version {version}, and this harness reads {SCHEMA_VERSION}: a newer one has "
            "written it, and can read it"
        )


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _what(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return " is broken"
    where = ".".join(map(str, first["loc"]))
    return f": {where}{': ' if where else ''}{first['msg']}"


def write_spec(folder: Path, train: TrainSpec) -> None:
    """Write what is trained in a folder; what is None is left out."""
    content = train.model_dump(mode="json", by_alias=True, exclude_none=True)
    write_json(folder / SPEC, {"schema_version": SCHEMA_VERSION} | content)


def read_spec(folder: Path) -> TrainSpec | None:
    """Return what is trained in a folder; None where that is missing or damaged.

    Raises:
        NewerRecord, OSError: as `Record.load`.
    """
    content = read_json(folder / SPEC)
    _refuse_newer(folder / SPEC, content)
    try:
        without_version = {key: value for key, value in content.items() if key != "schema_version"}
        return TrainSpec.model_validate({"regularizer": None} | without_version)
    except (AttributeError, ValidationError):
        return None


class Attempt(BaseModel):
    """One attempt at a training. Before they were recorded, there was one process of one thread."""

    model_config = ConfigDict(frozen=True, extra="allow")

    attempt: int = 1
    start: str = ""
    end: str | None = None
    last_sign: str | None = None  # of one that was killed, where an attempt came after it
    commit: str | None = None
    dirty: bool | None = None
    diff: str | None = None  # the file beside env.json that holds the uncommitted changes
    host: str = ""
    device: str = ""
    gpus: int | None = None
    driver: str | None = None
    cuda: str | None = None
    threads: int = 1
    processes: int = 1
    versions: dict[str, str | None] = {}
    slurm_job_id: str | None = None
    slurm: dict[str, str] | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether it was on GPUs; where their number was not recorded yet, by the device's name."""
        return self.device.startswith(GPU_NAMES) if self.gpus is None else self.gpus > 0

    @property
    def unit(self) -> str:
        """What its devices are: "GPU" or "core"."""
        return "GPU" if self.on_gpu else "core"

    @property
    def devices(self) -> int:
        """How many GPUs it used, one for each process, or else how many cores: the processes' threads."""
        return self.processes if self.on_gpu else self.processes * self.threads

    def hours(self, last_sign: float | None = None) -> float:
        """Return its device-hours, until `last_sign`, in seconds since 1970, where it did not end; 0 where the end is
        not known."""
        end = self.end or self.last_sign
        if end is None and last_sign is not None:
            end = utc(last_sign)
        try:
            seconds = (datetime.fromisoformat(end or "") - datetime.fromisoformat(self.start)).total_seconds()
        except (ValueError, TypeError):  # TypeError: one of the two without a zone
            return 0.0
        return max(0.0, seconds) / 3600 * self.devices


class Environment(Record):
    """`env.json`."""

    FILE = "env.json"
    model_config = ConfigDict(extra="allow")

    attempts: list[Attempt] = []

    @property
    def last(self) -> Attempt | None:
        """The last attempt."""
        return self.attempts[-1] if self.attempts else None

    def hours(self, last_sign: float | None) -> float:
        """Return the device-hours of all attempts; last_sign: of the last one, where it did not end."""
        return sum(attempt.hours(last_sign if attempt is self.last else None) for attempt in self.attempts)


def utc(seconds: float) -> str:
    """Return a time, in seconds since 1970, as it is recorded: in UTC and to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class Heartbeat(Record):
    """`heartbeat.json`: a sign of life. step of `total` is that of the training; time: in seconds since 1970."""

    FILE = "heartbeat.json"

    phase: str
    step: int
    total: int
    time: float
    host: str
    pid: int

    @property
    def alive(self) -> bool:
        """Whether the writer lives, and was not killed: by its age, and on this host by its process too."""
        if time.time() - self.time > HEARTBEAT_STALE_SECONDS:
            return False
        if self.host != platform.node():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class Failure(Record):
    """`error.json`. Before there were classes, what did not diverge was called "error": a bug. step: of the training;
    time: in seconds since 1970."""

    FILE = "error.json"

    kind: FailureClass = Field(default="bug", alias="class")
    message: str = ""
    traceback: str = ""
    step: int | None = None
    time: float | None = None

    @field_validator("kind", mode="before")
    @classmethod
    def _of_before_classes(cls, kind: Any) -> Any:
        return "bug" if kind in (None, "error") else kind


class EncoderRecord(BaseModel):
    """The frozen encoder of a run; of our own ViT, also what it learned from."""

    model_config = ConfigDict(extra="allow")

    name: str
    parameters: int
    sha256: str
    published: bool = False
    accuracy: float = 0.0
    data: str = ""
    images: int = 1
    images_seen: int = 0


class ModelFacts(Record):
    """`facts.json`: parameters of the sampled network, of the projector, and the encoder of an alignment."""

    FILE = "facts.json"

    parameters: int
    projector_parameters: int | None = None
    encoder: EncoderRecord | None = None


class Thumbnails(BaseModel):
    """How many tiles the picture beside a measurement holds."""

    rows: int
    columns: int


class MeasurementProtocol(BaseModel):
    """What a number was measured with; further keys are compared as well."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]

    features: str
    features_note: str = ""
    generated: int
    reference: str
    reference_count: int


class Measurement(Record):
    """The part of `evals/<eval_id>.json` that tables show; nfe: network evaluations of an image."""

    train_id: str
    eval_id: str
    metrics: dict[str, Any]
    unavailable: dict[str, str] = {}
    protocol: MeasurementProtocol
    nfe: int
    thumbnails: Thumbnails | None = None

    @property
    def measured_with(self) -> dict[str, Scalar]:
        """The network evaluations of an image and the protocol, without the note on the features."""
        return {"nfe": self.nfe, **self.protocol.model_dump(exclude={"features_note"})}


class MeasurementFile(Measurement):
    """All of `evals/<eval_id>.json`. others: by the name of other features, protocol and details of theirs. seconds:
    of sampling and of measuring."""

    model_config = ConfigDict(extra="allow")

    spec: dict[str, Any] = {}
    details: dict[str, Any] = {}
    others: dict[str, Any] = {}
    seconds: dict[str, float] = {}

    @property
    def evaluation(self) -> EvalSpec | None:
        """What was asked for; None where it is not a legal specification."""
        try:
            return EvalSpec.model_validate(self.spec)
        except ValidationError:
            return None

    @property
    def fid_by_count(self) -> dict[int, float]:
        """FID of the first so many images; none where that was not kept."""
        return {int(count): value for count, value in self.details.get("fid_by_count", {}).items()}


class ProbedBlock(BaseModel):
    """One block at one noise level; block 0 is the noisy image itself."""

    model_config = ConfigDict(extra="allow")

    block: int
    probe_accuracy: float
    effective_rank: float
    norm: float
    distance: float
    uniformity: float
    alignment: float
    cka: float | None = None
    cknna: float | None = None


class ProbedLevel(BaseModel):
    """All blocks at one noise level."""

    model_config = ConfigDict(extra="allow")

    noise: float
    blocks: list[ProbedBlock]


class Probe(Record):
    """`probe-<step>.json`."""

    train_id: str = ""
    step: int = 0
    protocol: dict[str, Any]
    levels: list[ProbedLevel]


def measurement_paths(folder: Path) -> list[Path]:
    """Return the files of a run's measurements, by name."""
    return sorted((folder / "evals").glob("*.json"))
