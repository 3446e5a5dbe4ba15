"""What features must be before any number is made of them."""

import numpy as np

from harness.errors import UserError


def check_features(rows: int, **sides: np.ndarray) -> None:
    """Refuse fewer than `rows` rows, and values that are not finite: a distance on them would be no number at all.

    sides: features (N, D) by what they are called in the message, "generated" or "reference".

    Raises:
        UserError: naming the side.
    """
    for side, x in sides.items():
        if len(x) < rows:
            raise UserError(f"{len(x)} {side} samples; this metric needs at least {rows}: draw more")
        broken = ~np.isfinite(x).all(1)
        if broken.any():
            raise UserError(f"{side} features are not finite in {int(broken.sum())} of {len(x)} rows")
