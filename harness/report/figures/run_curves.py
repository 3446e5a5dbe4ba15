"""Training curves as small SVGs, written by hand: matplotlib would take seconds for the runs of a study."""

import math
from dataclasses import dataclass

from harness.store.training_log import Log, Series

WIDTH, HEIGHT, POINTS = 280.0, 90.0, 80
SHOWN = {
    "denoising": "denoising loss",
    "regularizer": "regulariser",
    "loss": "whole loss",
    "gradient_share": "regulariser’s share of the gradient",
    "saturated_pairs": "share of saturated pairs",
}


@dataclass(frozen=True)
class Curve:
    """A line in a box of `WIDTH` × `HEIGHT`: where it goes, the range of its values, and words for it."""

    title: str
    points: str
    low: str
    high: str
    last: str
    alt: str


def curves(log: Log, name: str) -> tuple[Curve, ...]:
    """Return the curves of a training log: its losses by step. What the log does not hold, or cannot say, is absent."""
    series = {key: thinned(log.of(key)) for key in SHOWN}
    if series["loss"] == series["denoising"]:
        del series["loss"]  # without a regulariser they are one
    return tuple(_curve(SHOWN[key], values, name) for key, values in series.items() if len(values) > 1)


def thinned(known: Series) -> Series:
    """Return at most `POINTS` of a series, evenly apart and always the last."""
    every = max(1, math.ceil(len(known) / POINTS))
    return known[::-every][::-1]


def _curve(title: str, values: Series, name: str) -> Curve:
    steps, heights = [step for step, _ in values], [value for _, value in values]
    low, high = min(heights), max(heights)
    across, up = WIDTH / max(1, steps[-1] - steps[0]), HEIGHT / ((high - low) or 1.0)
    points = " ".join(f"{(step - steps[0]) * across:.1f},{(high - value) * up:.1f}" for step, value in values)
    alt = (
        f"{title} of training {name}: from {heights[0]:.4g} at step {steps[0]} to {heights[-1]:.4g} at step {steps[-1]}"
    )
    return Curve(title, points, f"{low:.4g}", f"{high:.4g}", f"{steps[-1]:,}", alt)
