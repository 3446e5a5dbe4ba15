"""Values that are no numbers are refused where they enter, by name: weights, features, latents, samples."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import UserError


class NotFinite(UserError):
    """Values of which some are NaN or infinite; `row` is the first of the leading axis that holds one."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def check_finite(values: Tensor | np.ndarray, what: str, advice: str = "") -> None:
    """Refuse values (N, …) of which some are NaN, infinite, or so large that float32 has no number for them.

    what: the values' name, which begins the message. advice: what to do, which ends it.

    Raises:
        NotFinite: naming the first.
    """
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(np.require(values, requirements="W"))  # torch takes no read-only memory
    x = values.float() if values.is_floating_point() else values
    if x.numel() == 0 or all(map(torch.isfinite, torch.aminmax(x))):  # NaN is both, and all is read once
        return
    bad = ~torch.isfinite(x)
    first, row = float(x[bad].flatten()[0]), int(bad.nonzero()[0, 0]) if bad.dim() else 0
    problem = f"{what}: {int(bad.sum()):,} of {x.numel():,} values are not finite (the first is {first:g})"
    raise NotFinite("; ".join(filter(None, (problem, advice))), row)


def check_dense(tensors: Mapping[str, Tensor], where: str, network: nn.Module | None = None) -> None:
    """Refuse tensors that are no plain arrays of real numbers; only what is declared of them is looked at.

    network: whose they are to be; it would round to whole numbers without a word what has been stored as such.

    Raises:
        UserError: naming the tensor.
    """
    own = network.state_dict() if network else {}
    for name, tensor in tensors.items():
        kinds = {
            "nested": tensor.is_nested,
            "sparse": tensor.layout != torch.strided,
            "quantised": tensor.is_quantized,
            "complex": tensor.is_complex(),
            "without values": tensor.is_meta,
            "of whole numbers": name in own and own[name].is_floating_point() > tensor.is_floating_point(),
        }
        if kind := next((kind for kind, applies in kinds.items() if applies), ""):
            raise UserError(f"{where}: {name} is {kind}; dense tensors of real numbers are read")


def check_weights(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights with which no network computes: as `check_dense`, and those that are not finite in float32.

    Raises:
        UserError: naming the tensor.
    """
    check_dense(tensors, where)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            advice = "the file is damaged, or its training diverged: take another one, or an earlier step"
            check_finite(tensor, f"{where}: {name}", advice)
