"""Training curves as small SVGs, written by hand: matplotlib would take seconds for the runs of a study."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, POINTS = 280.0, 90.0, 80
SHOWN = {"denoising": "denoising loss", "regularizer": "regulariser", "loss": "whole loss"}


@dataclass(frozen=True)
class Curve:
    """A line in a box of `WIDTH` × `HEIGHT`: where it goes, the range of its values, and words for it."""

    title: str
    points: str
    low: str
    high: str
    last: str
    alt: str


def curves(path: Path, name: str) -> tuple[Curve, ...]:
    """Return the curves of a training log: its losses by step. What the log does not hold, or cannot say, is absent."""
    logged = _logged(path)
    series = {key: _series(logged, key) for key in SHOWN}
    if series["loss"] == series["denoising"]:
        del series["loss"]  # without a regulariser they are one
    return tuple(_curve(SHOWN[key], values, name) for key, values in series.items() if len(values) > 1)


def _logged(path: Path) -> Mapping[int, Mapping[str, Any]]:
    """Read a log by step; of a step that was done twice the last counts, and a torn line is left out."""
    found: dict[int, Mapping[str, Any]] = {}
    for line in _lines(path):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            found[record["step"]] = record
    return dict(sorted(found.items()))


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return


def _series(logged: Mapping[int, Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """Return (step, value) of the finite values, at most `POINTS` of them and always the last."""
    values = [(step, record.get(key)) for step, record in logged.items()]
    known = [(s, float(v)) for s, v in values if isinstance(v, int | float) and math.isfinite(v)]
    every = max(1, math.ceil(len(known) / POINTS))
    return known[::-every][::-1]


def _curve(title: str, values: Sequence[tuple[int, float]], name: str) -> Curve:
    steps, heights = [step for step, _ in values], [value for _, value in values]
    low, high = min(heights), max(heights)
    across, up = WIDTH / max(1, steps[-1] - steps[0]), HEIGHT / ((high - low) or 1.0)
    points = " ".join(f"{(step - steps[0]) * across:.1f},{(high - value) * up:.1f}" for step, value in values)
    alt = (
        f"{title} of training {name}: from {heights[0]:.4g} at step {steps[0]} to {heights[-1]:.4g} at step {steps[-1]}"
    )
    return Curve(title, points, f"{low:.4g}", f"{high:.4g}", f"{steps[-1]:,}", alt)
