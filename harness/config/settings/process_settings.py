"""How images are drawn, and what only one family of models has."""

from typing import Annotated, Literal

from pydantic import Field

from harness.config.settings.values import Count, Frozen, Name, Positive, Precision, Real, Share, Whole


class SamplerSettings(Frozen):
    """How images are drawn from a trained network."""

    method: Name = Field(
        "heun",
        description="SiT: ODE (euler, heun) or SDE (euler-maruyama); DiT: ancestral, ddim; MF: average-velocity; "
        "Shortcut: shortcut; IMM: pushforward; iCT: one-step; or a plug-in's",
    )
    intervals: Count = Field(
        249,
        description="SiT and MF: integration intervals (the reference code's 250 grid points are 249); DiT and IMM: "
        "steps; Shortcut: 1, 2, 4 … 128 steps; iCT: 1",
    )
    guidance: Real = Field(1.0, ge=1, description="classifier-free guidance scale; 1 is none")
    guidance_channels: Literal["three", "all"] = Field(
        "three", description="channels under guidance: the reference code's first three, or all"
    )
    guidance_from: Real | None = Field(
        None, ge=0, description="guidance only above this noise level σ = noise/signal, (1 − t)/t at SiT's time t"
    )
    guidance_to: Positive | None = Field(None, description="guidance only up to this noise level σ")
    precision: Precision = Field("fp32", description="bf16: autocast of the network while sampling")
    matmul: Literal["fp32", "tf32"] | None = Field(
        None,
        description="how a GPU multiplies float32 while sampling and decoding, convolutions too: tf32, as the public "
        "samplers of SiT, or by default fp32",
    )
    tile: Annotated[Whole, Field(ge=1, le=256)] | None = Field(
        None, description="images drawn together, whichever are wanted, so that image i is the same; by default 64"
    )
    decode: Annotated[Whole, Field(ge=1, le=256)] | None = Field(
        None, description="latents of a tile that the autoencoder decodes together; by default one at a time"
    )


class MeanFlowSettings(Frozen):
    """What only MeanFlow has: guidance inside its training target, and the adaptive weight of its loss."""

    omega: Real = Field(1.0, ge=0, description="weight ω of the sample's velocity in the target")
    kappa: Share = Field(0.0, description="weight κ of the network's conditional velocity; ω = 1, κ = 0: no guidance")
    start: Real = Field(0.0, ge=0, le=1, description="guidance from this t on")
    end: Real = Field(1.0, ge=0, le=1, description="guidance up to this t")
    power: Real = Field(1.0, ge=0, description="power p of the adaptive weight")


class ShortcutSettings(Frozen):
    """What only shortcut models have: guidance inside the training target, and how many samples take it."""

    guidance: Real = Field(1.0, ge=1, description="guidance in the targets made of the two smallest steps; 1 is none")
    bootstrap_every: Whole | None = Field(
        None,
        ge=2,
        description="one sample in so many learns from two half steps: 8 in their authors' code; by default 4",
    )

    @property
    def every(self) -> int:
        """One sample in so many learns from two half steps; trainings stored before it could be said have 4."""
        return self.bootstrap_every or 4


class MomentMatchingSettings(Frozen):
    """What only IMM has: how far its target jumps begin before its own."""

    k: Whole = Field(12, ge=1, le=20, description="noise/signal falls by a 2ᵏ-th of its range; 12 in IMM's code")


class ConsistencySettings(Frozen):
    """What only iCT has: a curriculum, which must know how long training is to be."""

    epochs: Count | None = Field(None, description="the paper's epochs over which levels become finer; iCT needs it")
    finest: Whole = Field(1280, ge=10, description="last number s₁ of noise intervals; iCT: 1280 over 400,000 steps")
