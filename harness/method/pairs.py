"""Which pairs a repulsion still pushes apart: a regulariser's health, beside its value."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.method.distances import distances, full_precision, squared_distances
from harness.method.losses import Potential

NO_PUSH = 1e-3  # of the weight that each pair would have were all at one distance


@torch.no_grad()
def pair_terms(z: Tensor, z_plus: Tensor | None, potential: Potential) -> dict[str, Tensor]:
    """ "saturated_pairs" and "pair_evenness", scalars, of groups (..., N, D); a loss without pairs has neither.

    saturated_pairs: share of the pairs i ≠ j that are pushed no more. Hinge: beyond the margin. InfoNCE: of a weight
    (the softmax of −D/τ, over all i and j of one view, over j of two) below a thousandth of that of equal distances.
    pair_evenness, InfoNCE only: exp of the entropy of the weights of pairs i ≠ j, over the number of those pairs: 1
    where all are alike, as where τ is too large to tell near from far.
    """
    if potential.loss not in ("hinge", *INFONCE):
        return {}
    z, z_plus = z.float(), None if z_plus is None else z_plus.float()
    n, d = z.shape[-2:]
    between = ~torch.eye(n, dtype=torch.bool, device=z.device)  # i ≠ j
    with full_precision(z.device.type):
        if potential.loss == "hinge":
            beyond = distances(z, z_plus) / math.sqrt(d) >= potential.epsilon
            return {"saturated_pairs": beyond[..., between].float().mean()}
        logits = -INFONCE[potential.loss](z, z_plus) / potential.tau  # (..., N, N)
    over = logits.flatten(-2) if z_plus is None else logits
    weights = (over.softmax(-1) * over.shape[-1]).view_as(logits)[..., between]  # 1 for equal distances
    shares = logits[..., between].softmax(-1)  # (..., N(N − 1))
    evenness = torch.special.entr(shares).sum(-1).exp() / shares.shape[-1]
    return {"saturated_pairs": (weights < NO_PUSH).float().mean(), "pair_evenness": evenness.mean()}


def _squared(z: Tensor, z_plus: Tensor | None) -> Tensor:
    return squared_distances(z, z_plus) / z.shape[-1]


def _minus_cosine(z: Tensor, z_plus: Tensor | None) -> Tensor:
    unit_plus = None if z_plus is None else F.normalize(z_plus, dim=-1)
    return squared_distances(F.normalize(z, dim=-1), unit_plus) / 2 - 1


INFONCE: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "infonce-l2": _squared,
    "infonce-cosine": _minus_cosine,
}
