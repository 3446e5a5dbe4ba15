"""What people write of a run, in the paper's words (SiT-B/2, 80 epochs, block 3/12): frozen, unknown keys refused.

`resolve.py` makes of it what runs and is hashed: `spec.py`.
"""

from typing import Any, Literal

from pydantic import Field

from harness.config.settings.data_settings import Data, EvaluationSettings
from harness.config.settings.loss_settings import AlignmentSettings, RegularizerSettings, SoftTokensSettings
from harness.config.settings.process_settings import (
    ConsistencySettings,
    MeanFlowSettings,
    MomentMatchingSettings,
    SamplerSettings,
    ShortcutSettings,
)
from harness.config.settings.resources import Resources
from harness.config.settings.values import Count, Frozen, Name, Positive, Precision, Real, Share, Whole

MatmulPrecision = Literal["highest", "high", "medium"]
Family = Literal["SiT", "DiT", "MF", "Shortcut", "IMM", "iCT"]


class Rung(Frozen):
    """One size of a scale's ladder: what S, B, L or XL means there."""

    depth: Count = Field(description="blocks")
    width: Count = Field(description="channels of a token")
    heads: Count = Field(description="attention heads")


class Optimizer(Frozen):
    """AdamW at a constant learning rate (the paper: 1e-4, no warm-up, no weight decay)."""

    learning_rate: Positive = Field(1e-4, description="constant; the paper's, at batch 256")
    beta1: Share = Field(0.9, description="β₁")
    beta2: Share = Field(0.95, description="0.95 in the paper, 0.999 in the authors' PyTorch release")
    weight_decay: Real = Field(0.0, ge=0, description="decoupled weight decay")


class Settings(Frozen):
    """Everything that a table, a scale, a row or `--set` may say of a run."""

    preset: Name | None = Field(None, description="file in grids/presets whose settings lie under all others")
    model: str = Field(description="family-size/patch, SiT-B/2: family SiT, DiT, MF, Shortcut, IMM, iCT or a plug-in's")
    epochs: Whole = Field(ge=0, description="the paper's epochs; the scale says what one costs in steps")
    residuals: Literal["none", "long"] = Field(
        "none",
        description="long: DiverseDiT's network, where the output of block i is joined to the input of block L − i",
    )
    weights: Name | None = Field(None, description="imported weights to begin from, by name; epochs: 0 measures them")
    data: Data
    batch: Count = Field(description="samples of a training step, over all processes")
    label_drop: Share = Field(0.1, description="probability that a label is hidden, for classifier-free guidance")
    dropout: Share = Field(
        0.0, description="of SiT and DiT: probability that an element of what a block adds is left out in training"
    )
    ema: Share = Field(0.9999, description="decay of the moving average of the weights")
    precision: Precision = Field("fp32", description="bf16: autocast of the network while training")
    matmul: MatmulPrecision = Field(
        "highest", description="of float32 in training: highest is no TF32, nor in convolutions"
    )
    optimizer: Optimizer = Optimizer()
    regularizer: RegularizerSettings = RegularizerSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    soft_tokens: SoftTokensSettings | None = Field(
        None, description="a second phase on the run that is the same without it: its network is frozen"
    )
    terms: dict[Name, dict[str, Any]] = Field(
        {}, description="further terms of the loss: a name of one's own → kind, lambda and the keys of that kind; "
        "without a kind, or with none, it is left out"
    )  # fmt: skip
    process: dict[str, Any] = Field({}, description="settings of the process of a plug-in's family, the model's")
    meanflow: MeanFlowSettings = MeanFlowSettings()
    shortcut: ShortcutSettings = ShortcutSettings()
    imm: MomentMatchingSettings = MomentMatchingSettings()
    consistency: ConsistencySettings = ConsistencySettings()
    sampler: SamplerSettings = SamplerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    resources: Resources = Resources()

    def __hash__(self) -> int:
        """Of the fields that can be hashed, `terms` cannot; equal settings are equal in these too."""
        return hash((self.model, self.epochs, self.data, self.regularizer, self.alignment, self.evaluation))
