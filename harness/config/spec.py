"""What a run *is*: every field concrete, nothing that a cluster may change; canonical JSON, and the two identities.

`TrainSpec` and `EvalSpec` are what runs and is hashed; `resolve.py` makes them of what people write, `settings/`.
"""

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.config.settings.data_settings import Data, EvaluationSettings
from harness.config.settings.loss_settings import LossName, OwnEncoder, SaraSettings, constants_of, read_tau
from harness.config.settings.process_settings import (
    MeanFlowSettings,
    MomentMatchingSettings,
    SamplerSettings,
    ShortcutSettings,
)
from harness.config.settings.run_settings import MatmulPrecision, Optimizer, Rung
from harness.config.settings.values import Count, Frozen, Name, Precision, Whole

TILE = 64  # images that are drawn together where sampler.tile does not say it: always whole tiles


class Model(Rung):
    """The transformer, concretely; residuals: None is none."""

    patch: Count
    residuals: Literal["long"] | None = None


class Regularizer(Frozen):
    """The regulariser, concretely; beside these fields lie the constants of its loss (`CONSTANTS`), and no others.

    What the loss does not use is not there, and so leaves the identity alone. stop: the first training step without it.
    warm_up: steps over which λ grows. A τ of {"of_distance": share} is that share of D at the start.
    """

    model_config = ConfigDict(extra="allow")

    kind: Literal["dispersive", "contrastive"]
    loss: LossName
    lambda_: float = Field(alias="lambda")
    blocks: tuple[int, ...]
    group: int
    noise: Literal["independent", "restricted"] | None = None
    gap: float | None = None
    stop: Count | None = None
    warm_up: Count | None = None

    @property
    def constants(self) -> dict[str, Any]:
        """The constants of its loss: τ, ε …"""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _constants_of_the_loss(self) -> Self:
        expected = constants_of(self.loss, self.kind)
        if sorted(self.constants) != sorted(expected):
            raise ValueError(f"a {self.kind} {self.loss} has the constants {expected}, found {sorted(self.constants)}")
        if "tau" in self.constants:
            read_tau(self.constants["tau"])
        return self


class Consistency(Frozen):
    """The curriculum of iCT, concretely."""

    steps: Count
    finest: Count


class Alignment(Frozen):
    """The alignment, concretely. What identifies the encoder is its recipe, its file's sha256, or its public name.

    A projector is of linear layers, and so `hidden` wide, or a convolution, and so has a `kernel`. stop: the first
    training step without it. warm_up: steps over which its weight grows.
    """

    loss: Literal["cosine", "sara"]
    coefficient: float
    block: int
    hidden: int | None = None
    kernel: int | None = None
    alpha: float | None = None
    encoder: str
    weights: str | None = None
    side: int | None = None
    own: OwnEncoder | None = None
    sara: SaraSettings | None = None
    stop: Count | None = None
    warm_up: Count | None = None


class TermSpec(Frozen):
    """A further term of the loss, concretely; beside these fields lie the settings of its kind, no others.

    name: its own in this loss. group: samples that it compares. stop: the first training step without it. warm_up:
    steps over which λ grows.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    kind: str
    lambda_: float = Field(alias="lambda")
    blocks: tuple[int, ...]
    group: Count | None = None
    stop: Count | None = None
    warm_up: Count | None = None


class SoftTokenPhase(Frozen):
    """A second phase, concretely: of the training that is the same without it.

    after: the step of that training whose average is frozen. blocks: how many of the first have tokens.
    """

    after: Whole = Field(ge=0)
    blocks: Count
    count: Count
    group: Count
    temperature: float
    denoising: float
    learning_rate: float
    weight_decay: float


class ProcessSettings(Frozen):
    """The settings of a plug-in's process, concretely: all that its model has."""

    model_config = ConfigDict(extra="allow")


Origins = tuple[str, ...]  # what plug-ins bring to a run, and which code that is: "terms/mine my-package 1.2"


class TrainSpec(Frozen):
    """One training. The horizon is not part of it: the rate is constant, so epoch 80 of 800 *is* the 80-epoch run.

    process: what `kinds.process_kinds` calls it. process_settings: those of a plug-in's.
    """

    process: Name
    process_settings: ProcessSettings | None = None
    data: Data
    model: Model
    regularizer: Regularizer | None
    alignment: Alignment | None = None
    terms: tuple[TermSpec, ...] | None = None
    soft_tokens: SoftTokenPhase | None = None
    plugins: Origins | None = None
    meanflow: MeanFlowSettings | None = None
    shortcut: ShortcutSettings | None = None
    imm: MomentMatchingSettings | None = None
    consistency: Consistency | None = None
    optimizer: Optimizer
    batch: int
    label_drop: float
    dropout: float | None = None
    ema: float
    precision: Precision
    matmul: MatmulPrecision
    weights: str | None = Field(None, description="identity of the weights it begins from; None draws them")
    seed: int

    @property
    def first_phase(self) -> "TrainSpec | None":
        """The training whose network a second phase freezes; None of a training that is none."""
        return self.model_copy(update={"soft_tokens": None}) if self.soft_tokens else None


class EvalSpec(Frozen):
    """One measurement of one checkpoint."""

    step: int
    sampler: SamplerSettings
    evaluation: EvaluationSettings
    first_image: int
    plugins: Origins | None = None

    @property
    def tile(self) -> int:
        """Images that are drawn together, always whole tiles: image i is the same whatever is drawn beside it."""
        return self.sampler.tile or TILE

    @property
    def tiles(self) -> range:
        """The tiles that hold the images; of the first and the last maybe only a part is wanted."""
        return range(self.first_image // self.tile, (self.first_image + self.evaluation.samples - 1) // self.tile + 1)


def shard_of(tiles: range, shard: int, shards: int) -> range:
    """Return the tiles of one of several shards, counted from 1: contiguous, and alike in number but for one."""
    return tiles[len(tiles) * (shard - 1) // shards : len(tiles) * shard // shards]


Stored = dict[str, Any]  # what a file holds of a specification


def canonical(spec: BaseModel | Stored) -> str:
    """Canonical JSON: every field, keys sorted, floats by repr; None dropped: a new knob leaves old ids alone."""
    content = spec if isinstance(spec, dict) else spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def train_id(train: TrainSpec | Stored) -> str:
    """Return the identity of a training: 12 hexadecimal digits of sha256."""
    return hashlib.sha256(canonical(train).encode()).hexdigest()[:12]


def eval_id(train_id: str, evaluation: EvalSpec | Stored) -> str:
    """Return the identity of a measurement of the training of that identity."""
    return hashlib.sha256((train_id + canonical(evaluation)).encode()).hexdigest()[:12]
