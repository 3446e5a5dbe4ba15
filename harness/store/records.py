"""The files of a run: one model for each, by which it is written and read, here and nowhere else.

    spec.json          `write_spec`, `read_spec`: what is trained
    env.json           `Environment`: where and with what it ran, attempt by attempt
    train.jsonl        `read_log`: a line of numbers every so many steps, and for early ones
    heartbeat.json     `Heartbeat`: present while a job is at work
    error.json         `Failure`: present after a failure
    facts.json         `ModelFacts`: what only torch can know of the networks
    evals/<id>.json    `Measurement`: the metrics of its images, and how they were drawn and measured
    probe-<step>.json  `Probe`: what a checkpoint's representations are like

of a study

    grids/<table>.json `GridRecord`: which grid file, scale and overrides belong to it
    code/<v>.json      `CodeRecord`: a version of the sources that worked on it

and of what was sent to SLURM, beside the checkpoints

    submission.json    `Submission`: which job of SLURM's makes this training; written before it is sent
    slurm/sent.json    `SubmitOptions`: the profile and the data folder of the last submit

Each JSON file says its `schema_version`; one that does not is of before the first version, whose fields it shares. What
an older file lacks has the default that its model names: what was true when it was written. A file of a newer version
is refused, because its words may mean something else. A line of the log has numbers by name and no version; a name that
is missing was not logged. What a file holds beyond its model is kept, and written again.

What others wrote is not trusted: a file has its size, depth and types, or is damaged; in its texts control characters
are written out, and what looks like a secret is masked.
"""

import math
import os
import platform
import re
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from harness.config.plugin_parts import PluginRecord
from harness.config.spec import EvalSpec, TrainSpec, train_id
from harness.credentials import is_suspect, masked
from harness.errors import UserError
from harness.files import UnfitFile, first_mistake, head, parse_log, read_file, read_json, read_jsonl, tail, write_json
from harness.metric_definitions import beyond
from harness.plain_text import CONTROL, escape_controls, shown
from harness.store import job_part

SCHEMA_VERSION = 1
LOG = "train.jsonl"
HEALTH = ("gradient_share", "saturated_pairs")
OVERSHOOT = ("overshoot", "distance_start", "tau")
KEYS = (
    "denoising", "regularizer", "loss", "images_per_second", "above_floor", "gradient_norm", "distance", *HEALTH,
    *OVERSHOOT,
)  # fmt: skip
TAIL = 8192  # bytes of a log: dozens of its lines, of a log that may have a hundred thousand
HEARTBEAT_SECONDS = 5.0
HEARTBEAT_STALE_SECONDS = 60.0
GPU_NAMES = ("NVIDIA", "Tesla", "AMD Instinct", "AMD Radeon")  # as torch names them; processors are others

FailureClass = Literal[
    "out of memory", "time limit", "preempted", "node", "disk full", "diverged", "bad data", "bug", "cancelled",
    "killed", "failed to start",
]  # fmt: skip
# Numbers as far as arithmetic, processes, clocks and tables take them; JSON knows larger ones, and NaN.
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Positive = Annotated[int, Field(ge=1, lt=1 << 53)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0, lt=2.5e11)]  # seconds since 1970, until the year 9892
LONGEST_NAME = 200  # characters
Name = Annotated[str, Field(max_length=LONGEST_NAME)]  # a table repeats it in each of its rows
Scalar = Name | Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | Finite | bool | None
JobId = Annotated[str, Field(pattern=r"^[0-9]+(_[0-9]+)?$")]  # of SLURM: it goes to its programs, and into paths
Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
JobPartName = Annotated[str, Field(pattern=job_part.PATTERN)]
LARGEST = 1e60  # far beyond float32, and its fourth power is still a number: statistics do not overflow
MOST_ITEMS = 100_000  # of a file, with its lists and mappings; each that is wrong costs some kilobytes of words
LONGEST_TEXT = 10_000  # characters, of which none but a message or a traceback has a tenth
MOST_METRICS = 1000
MOST_KEYS = 100  # of a protocol
MOST_LINES = 200_000  # of a log that is shown
ESCAPED = re.compile(rb"\\[ubfr/\"]")  # how JSON spells what is not plain text
Series = Sequence[tuple[int, float]]
Log = Mapping[str, Series]  # the finite numbers of a training log, as (step, value), of each of `KEYS`
NO_LOG: Log = {key: () for key in KEYS}


class LoggedSeries(Sequence[tuple[int, float]]):
    """Steps with their values at 16 bytes each: a study has millions."""

    def __init__(self, points: Sequence[tuple[int, float]]) -> None:
        self.steps, self.values = array("q", [step for step, _ in points]), array("d", [value for _, value in points])

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: Any) -> Any:
        """Return a point by its number."""
        return self.steps[index], self.values[index]

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Yield the points."""
        return zip(self.steps, self.values, strict=True)

    def __eq__(self, other: object) -> bool:
        """Tell whether another sequence has the same points."""
        return isinstance(other, Sequence) and tuple(self) == tuple(other)


class DamagedRecord(UserError):
    """A file of a run that is not whole, or does not hold what it should."""


class NewerRecord(UserError):
    """A file of a run that a newer harness has written."""


class UnreadableRecord(UserError):
    """A file of a run that the system does not let us read, or that is no plain file of a legal size."""


class Part(BaseModel):
    """A part of a file."""

    model_config = ConfigDict(frozen=True, extra="allow", validate_by_name=True, defer_build=True)


R = TypeVar("R", bound="Record")


class Record(Part):
    """A JSON file of a run. place: its run's folder, or the file itself where a run has several of the kind."""

    FILE: ClassVar[str] = ""

    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)

    @classmethod
    def load(cls, place: Path) -> Self | None:
        """Return what a file holds; None where it is missing.

        Raises:
            DamagedRecord: it is not such a file.
            NewerRecord: a newer harness has written it.
            UnreadableRecord: it cannot be read.
        """
        path = place / cls.FILE
        name = escape_controls(f"{path.parent.name}/{path.name}")
        content = b""
        try:
            content = read_file(path)
            return _parsed(cls, content)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            remedy = "; remove it" if isinstance(error, UnfitFile) else ""
            raise UnreadableRecord(f"{name}: {error.strerror}{remedy}") from None
        except ValidationError as error:
            raise _refusal(name, error, content) from None
        except ValueError:
            raise DamagedRecord(f"{name} is broken") from None

    @classmethod
    def read(cls, place: Path) -> Self | None:
        """Return what a file holds; None where it is missing or damaged.

        Raises:
            NewerRecord, UnreadableRecord: as `load`.
        """
        with suppress(DamagedRecord):
            return cls.load(place)
        return None

    @classmethod
    def peek(cls, place: Path) -> Self | None:
        """Return what a file holds, for those who only show it; None whatever is wrong with it."""
        with suppress(UserError):
            return cls.load(place)
        return None

    @property
    def content(self) -> dict[str, Any]:
        """What is written: the version, and the fields that were given."""
        return {"schema_version": SCHEMA_VERSION} | self.model_dump(by_alias=True, exclude_unset=True)

    def write(self, place: Path) -> None:
        """Write the file."""
        write_json(place / self.FILE, self.content)


def _parsed(model: type[R], content: bytes) -> R:
    """Check a file against its model, its texts made plain; hardly one has to be, so that is looked for first.

    Raises:
        ValueError: it is not JSON, or has too many items; `ValidationError` where it does not fit.
    """
    if items_in(content) > MOST_ITEMS:
        raise ValueError
    if _is_plain(content):
        return model.model_validate_json(content)
    return model.model_validate(_plain(from_json(content)))


def _is_plain(content: bytes) -> bool:
    """Tell whether each text of some JSON is plain; what stands between texts is numbers, or no JSON."""
    texts = content.decode(errors="replace").split('"')[1::2]
    return not ESCAPED.search(content) and all(map(_is_plain_text, set(texts)))


@lru_cache(maxsize=1 << 12)  # files of a study share nearly all of their texts
def _is_plain_text(text: str) -> bool:
    if len(text) > LONGEST_TEXT or CONTROL.search(text):
        return False
    return not is_suspect(text) or ("\\" not in text and masked(text) == text)


def items_in(content: bytes) -> int:
    """Return how many values, lists and mappings JSON has at most."""
    return sum(map(content.count, (b",", b"[", b"{")))


def _plain(value: Any) -> Any:
    """Return JSON of which every text, names too, has its control characters written out and its secrets masked, and
    lacks its middle where it is long: a message says at its beginning what it is about, a traceback at its end."""
    if isinstance(value, str):
        half = LONGEST_TEXT // 2
        text = escape_controls(masked(value), keep="\n\t")
        return text if len(text) <= LONGEST_TEXT else f"{text[:half]}…{text[-half:]}"
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value


def finite(value: Any) -> float | None:
    """Return a stored value as a number; None where it is none: NaN, infinite, a text, or beyond `LARGEST`."""
    is_number = isinstance(value, (float, int)) and not isinstance(value, bool) and abs(value) <= LARGEST
    return float(value) if is_number else None


def _refusal(name: str, error: ValidationError, content: bytes) -> UserError:
    """Say in one line what is wrong with a file; its version first, which may explain all else."""
    mistakes = error.errors(include_input=False, include_url=False)
    if any(mistake["type"] == "less_than_equal" and mistake["loc"] == ("schema_version",) for mistake in mistakes):
        newer = shown(from_json(content)["schema_version"])
        return NewerRecord(f"{name}: schema version {newer} is of a newer harness; this one reads {SCHEMA_VERSION}")
    broken = mistakes[0]["type"] == "json_invalid"
    return DamagedRecord(f"{name} is broken" if broken else f"{name}: {first_mistake(error)}")


class SpecFile(Record):
    """`spec.json`: the fields of a `TrainSpec` that are not None."""

    FILE = "spec.json"


def write_spec(folder: Path, train: TrainSpec) -> None:
    """Write what is trained in a folder."""
    SpecFile.model_validate(train.model_dump(mode="json", by_alias=True, exclude_none=True)).write(folder)


def read_spec(folder: Path) -> TrainSpec | None:
    """Return what is trained in a folder; None where that is missing or damaged.

    Raises:
        NewerRecord, UnreadableRecord: as `Record.load`.
    """
    file = SpecFile.read(folder) or SpecFile()
    with suppress(ValidationError):  # the baseline's regulariser is None, and has no default
        return TrainSpec.model_validate({"regularizer": None, **(file.model_extra or {})})
    return None


def spec_identity(folder: Path) -> str:
    """Return the identity of a training by the words of its `spec.json`; "" where there are none, or newer ones."""
    with suppress(OSError):
        content = read_json(folder / SpecFile.FILE)
        if isinstance(content, dict) and content.pop("schema_version", None) in (None, SCHEMA_VERSION):
            return train_id(content)
    return ""


class StatedClaim(Part):
    """A claim of a grid, as `TestedClaim.words` has it; when it was first stated in this study, and by which code."""

    claim: Annotated[str, Field(max_length=LONGEST_TEXT)]
    stated: Name
    commit: Name | None = None
    dirty: bool | None = None


class GridRecord(Record):
    """`grids/<table>.json` of a study: which grid file, scale and overrides belong to it, and what was ever claimed."""

    grid: str
    scale: str
    overrides: list[str] = Field(alias="set")
    plugins: PluginRecord | None = None  # what of them the runs were made of
    claims: Annotated[tuple[StatedClaim, ...], Field(max_length=1000)] | None = None

    def without_seeds(self) -> Self:
        """Return the record of which more seeds of the same runs, newer plug-ins and other claims have the same."""
        words = sorted(word for word in self.overrides if not word.startswith("seeds="))
        return self.model_copy(update={"overrides": words, "plugins": None, "claims": None})

    def stating(self, earlier: Self | None, claims: Iterable[StatedClaim]) -> Self:
        """Return the record with the claims of an earlier one, and those of `claims` that it has not."""
        stated = {claim.claim: claim for claim in (*claims, *((earlier and earlier.claims) or ()))}
        return self.model_copy(update={"claims": tuple(stated.values())}) if stated else self


class Attempt(Part):
    """One attempt at a training. Before they were recorded, there was one process of one thread."""

    attempt: Count = 1
    start: str = ""
    end: str | None = None
    last_sign: str | None = None  # of one that was killed, where an attempt came after it
    commit: str | None = None
    dirty: bool | None = None
    diff: str | None = None  # the file beside env.json that holds the uncommitted changes
    host: str = ""
    device: str = ""
    gpus: Count | None = None
    driver: str | None = None
    cuda: str | None = None
    threads: Positive = 1
    processes: Positive = 1
    sharing: Positive = 1  # trainings at once on each of its GPUs
    versions: dict[str, str | None] = {}
    slurm_job_id: str | None = None
    slurm: dict[str, str] | None = None
    part: JobPartName = "whole"  # what of the training's work it did
    compiled: bool = False  # whether the network's blocks were
    code: Name | None = None  # which version of the sources (jobs/code_version.py)

    @property
    def on_gpu(self) -> bool:
        """Whether it was on GPUs; where their number was not recorded yet, by the device's name."""
        return self.device.startswith(GPU_NAMES) if self.gpus is None else self.gpus > 0

    @property
    def unit(self) -> str:
        """What its devices are: "GPU" or "core"."""
        return "GPU" if self.on_gpu else "core"

    @property
    def devices(self) -> float:
        """How many GPUs it used, its part of one for each process, or else how many cores: the processes' threads."""
        return self.processes / self.sharing if self.on_gpu else self.processes * self.threads

    def hours(self, last_sign: float | None = None) -> float:
        """Return its device-hours, until `last_sign`, in seconds since 1970, where it did not end; 0 where the end is
        not known."""
        end = self.end or self.last_sign or (utc(last_sign) if last_sign else "")
        with suppress(ValueError, TypeError):  # TypeError: one of the two without a zone
            seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(self.start)).total_seconds()
            return max(0.0, seconds) / 3600 * self.devices
        return 0.0


class Environment(Record):
    """`env.json`."""

    FILE = "env.json"

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


def read_log(path: Path) -> Log:
    """Read a log; its series are empty where it does not hold them, or is missing.

    Raises:
        OSError: it cannot be read; `UnfitFile` where it is no log, or has more than `MOST_LINES`.
    """
    lines = read_jsonl(path, ("step", *KEYS), MOST_LINES)
    return {key: _series(lines, key) for key in KEYS}


def _series(lines: list[dict[str, Any]], key: str) -> Series:
    stored = [(line["step"], finite(line[key])) for line in lines if key in line and 0 <= line["step"] < 1 << 53]
    return LoggedSeries([(step, value) for step, value in stored if value is not None])


def logged_hours(log: Log, batch: int, step: int) -> float | None:
    """Return how long the steps until `step` took by the logged speeds; None where they do not reach it."""
    seconds, before = 0.0, 0
    for at, speed in log["images_per_second"]:
        if before >= step or speed <= 0:
            break
        seconds += (min(at, step) - before) * batch / speed
        before = at
    return seconds / 3600 if before >= step > 0 and math.isfinite(seconds) else None


class Overshoot(NamedTuple):
    """The largest D of a training's features in units of D before its first step, where its loss has blown them up.

    steps: training steps after which that was. distance: D before the first. tau: of the loss.
    """

    growth: float
    steps: int
    distance: float
    tau: float

    @property
    def words(self) -> str:
        """What it is, and another τ to try, in a line."""
        times = f"{self.tau / self.distance:.2g} times" if self.distance > 0 else "above"
        return (
            f"D has grown {self.growth:.0f}-fold in {self.steps:,} steps; τ = {self.tau:g} is {times} the features' D "
            f"at the start, {self.distance:.2g}; a tenth of that is regularizer.tau.of_distance=0.1"
        )


def overshoot(log: Log) -> Overshoot | None:
    """Return what a training's log says of an overshoot; None where there was none."""
    series = [dict(log[key]) for key in OVERSHOOT]
    peaks = [(growth, -step) for step, growth in series[0].items() if step in series[1] and step in series[2]]
    if not peaks:
        return None
    growth, step = max(peaks)
    return Overshoot(growth, -step, series[1][-step], series[2][-step])


def early_overshoot(path: Path) -> Overshoot | None:
    """Return the same of the first lines of a log, for those who look at many; whether it can be read or not."""
    lines = [line for line in parse_log(head(path, TAIL), ("step", *OVERSHOOT)) if line["step"] >= 0]
    return overshoot({key: _series(lines, key) for key in OVERSHOOT})


def last_speeds(path: Path) -> list[float]:
    """Return the images per second of the last whole lines of a log, in their order."""
    speeds = (finite(line.get("images_per_second")) for line in parse_log(tail(path, TAIL)))
    return [speed for speed in speeds if speed and speed > 0]


class Heartbeat(Record):
    """`heartbeat.json`: a sign of life. step of `total` is that of the training; time: in seconds since 1970, by the
    clock of `host`; slurm_job: whose sign it is, where SLURM runs it."""

    FILE = "heartbeat.json"

    phase: str
    step: Count
    total: Count
    time: Time
    host: str
    pid: Annotated[int, Field(ge=1, lt=1 << 31)]
    slurm_job: JobId | None = None

    @property
    def alive(self) -> bool:
        """Whether the writer lives, and was not killed: by its age, and on this host by its process too."""
        try:
            if self.host == platform.node():
                os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it lives, and is another user's
            pass
        return time.time() - self.time <= HEARTBEAT_STALE_SECONDS


def _class_of_before(kind: Any) -> Any:
    """Before there were classes, what did not diverge was called "error": a bug."""
    return "bug" if kind in (None, "error") else kind


class Failure(Record):
    """`error.json`. step: of the training; time: in seconds since 1970; slurm_job: which failed, under SLURM."""

    FILE = "error.json"

    kind: Annotated[FailureClass, BeforeValidator(_class_of_before)] = Field(default="bug", alias="class")
    message: str = ""
    traceback: str = ""
    step: Count | None = None
    time: Time | None = None
    slurm_job: JobId | None = None


class EncoderRecord(Part):
    """The frozen encoder of a run; of our own ViT, also what it learned from."""

    name: str
    parameters: Count
    sha256: str
    published: bool = False
    accuracy: Finite = 0.0
    data: str = ""
    images: Positive = 1
    images_seen: Count = 0


class ModelFacts(Record):
    """`facts.json`: parameters of the sampled network, of the projector, and the encoder of an alignment."""

    FILE = "facts.json"

    parameters: Count
    projector_parameters: Count | None = None
    encoder: EncoderRecord | None = None


class Thumbnails(Part):
    """How many tiles the picture beside a measurement holds."""

    rows: Positive
    columns: Positive


class MeasurementProtocol(Part):
    """What a number was measured with; further keys are compared as well."""

    __pydantic_extra__: dict[str, Scalar]

    features: Name
    features_note: Name = ""
    generated: Positive
    reference: Name
    reference_count: Count

    @model_validator(mode="after")
    def _few_keys(self) -> Self:
        extra = self.model_extra or {}
        if len(extra) > MOST_KEYS or any(len(key) > LONGEST_NAME for key in extra):
            raise ValueError(f"a protocol has at most {MOST_KEYS} keys, each of at most {LONGEST_NAME} characters")
        return self


class Measurement(Record):
    """`evals/<eval_id>.json`. nfe: network evaluations of an image. others: by the name of other features, protocol and
    details of theirs. seconds: of sampling and of measuring."""

    train_id: str
    eval_id: str
    metrics: Annotated[dict[Name, Any], Field(max_length=MOST_METRICS)]
    unavailable: dict[str, str] = {}
    protocol: MeasurementProtocol
    nfe: Positive
    thumbnails: Thumbnails | None = None
    spec: dict[str, Any] = {}
    details: dict[str, Any] = {}
    others: dict[str, Any] = {}
    seconds: dict[str, Finite] = {}

    @property
    def measured_with(self) -> dict[str, Scalar]:
        """The network evaluations of an image and the protocol, without the note on the features."""
        return {"nfe": self.nfe, **self.protocol.model_dump(exclude={"features_note"})}

    @property
    def evaluation(self) -> EvalSpec | None:
        """What was asked for; None where it is not a legal specification."""
        with suppress(ValidationError):
            return EvalSpec.model_validate(self.spec)
        return None

    def number(self, name: str) -> tuple[float | None, str]:
        """Return a metric as a number, or None and why: it is not there, no number, or beyond what it can be."""
        value = self.metrics.get(name)
        if name not in self.metrics:
            unavailable = self.unavailable.get(name)
            return None, f"it holds no {name}{f': {unavailable}' if unavailable else ''}"
        number = finite(value)
        legal = "" if number is None else beyond(name, number)
        return (None, f"{name} is {shown(value)}{legal}") if number is None or legal else (number, "")

    @property
    def fid_by_count(self) -> dict[int, float]:
        """FID of the first so many images; none where that was not kept, or is no number."""
        kept = self.details.get("fid_by_count")
        numbers = {count: finite(value) for count, value in kept.items()} if isinstance(kept, dict) else {}
        legal = {count: value for count, value in numbers.items() if value is not None and not beyond("fid", value)}
        return {int(count): value for count, value in legal.items() if count.isdecimal()}


class ProbedBlock(Part):
    """One block at one noise level; block 0 is the noisy image itself."""

    block: Count
    probe_accuracy: Annotated[Finite, Field(ge=0, le=1)]
    effective_rank: Finite
    norm: Finite
    distance: Finite
    uniformity: Finite
    alignment: Finite
    cka: Finite | None = None
    cknna: Finite | None = None


class ProbedLevel(Part):
    """All blocks at one noise level."""

    noise: Finite
    blocks: list[ProbedBlock]


class Probe(Record):
    """`probe-<step>.json`."""

    train_id: str = ""
    step: Count = 0
    protocol: dict[str, Any]
    levels: list[ProbedLevel]


def measurement_paths(folder: Path) -> list[Path]:
    """Return the files of a run's measurements, by name."""
    return sorted((folder / "evals").glob("*.json"))


class Submission(Record):
    """`submission.json`. token: the name of its job, chosen before SLURM gave it an id. time: in seconds since 1970.
    part: what of the training's work it does. user: who sent it, from `folder` beside the trainings'. cancelled_before:
    ids of earlier jobs of the same work that were cancelled; earlier: id of the job before this one. launcher: who has
    it, by its name."""

    FILE = "submission.json"

    token: str
    index: Count | None
    evaluations: tuple[Identity, ...]
    time: Time
    job: JobId | None = None
    cancelled: bool = False
    part: JobPartName = "whole"
    user: Name = ""
    folder: Annotated[str, Field(pattern=r"^slurm(-[A-Za-z0-9_.@-]+)?$")] = "slurm"
    cancelled_before: tuple[JobId, ...] = ()
    earlier: JobId | None = None
    launcher: Name = "slurm"

    @property
    def place(self) -> tuple[str, int | None]:
        """Where SLURM's queue has its job, also where nobody lived to write down its id."""
        return self.token, self.index

    @property
    def reached(self) -> "Submission":
        """What is known of the last job that SLURM took, where it does not have the one that was to be sent: who sent
        it was interrupted before SLURM was asked."""
        if self.job or not self.earlier:
            return self
        return self.model_copy(update={"job": self.earlier, "cancelled": self.earlier in self.cancelled_before})

    def cancels(self, name: str, id: str) -> bool:
        """Tell whether the job of a name and an id is one that was cancelled."""
        mine = id == self.job if self.job else name == self.token
        return id in self.cancelled_before or (self.cancelled and mine)


class CodeRecord(Record):
    """`code/<version>.json` of a study: the sources that numbers follow from, each by its hash, and their commit."""

    FOLDER: ClassVar[str] = "code"

    files: Annotated[dict[Name, Name], Field(max_length=1000)]
    commit: Name | None = None
    dirty: bool | None = None


class SubmitOptions(Record):
    """`sent.json`: what a retry takes over from the last submit."""

    FILE = "sent.json"

    profile: str | None = None
    data: str | None = None
    plugins: list[str] = []
