"""Table 1 of the paper: InfoNCE (ℓ2 and cosine), hinge and covariance, each contrastive and dispersive.

A contrastive objective attracts the two views of a sample and repels different samples. The paper's Dispersive Loss is
the contrastive one with the attraction removed, so that one view is enough:

    contrast(z, z_plus) = attract(z, z_plus) + repel(z, z_plus)
    disperse(z)         =                      repel(z, None)

Each repulsion below therefore has two forms: of two views, one expectation per anchor i as in the contrastive column;
of one view (`z_plus` None), the expectation over all pairs (i, j), zero diagonal included, of the dispersive column.
Pairs of two views are (z_i, z_j⁺): our reading, as the paper's formulas leave the view of j open.

Letters: B samples in a batch, N in a group, D features (a flattened block output, tokens × channels); i, j samples;
m, n features.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.method import fused_losses as fused
from harness.method.distances import ROUNDINGS, distances, gram, squared_distances
from harness.method.precision import full_precision

NO_PUSH = 1e-3  # of the weight that each pair would have were all at one distance
Distance = Callable[[Tensor, Tensor | None], Tensor]  # of all pairs of one view or two: (..., N, D) → (..., N, N)


@dataclass(frozen=True)
class Potential:
    """Which row of Table 1, and its constants; a loss ignores the constants that are not its own.

    loss: a key of `TABLE_1`. tau: temperature τ (InfoNCE). epsilon: margin ε of the hinge's D, the root mean square of
    z_i − z_j over its features. offdiagonal: w of the contrastive covariance. normalization: "standardized" (Cov is
    the correlation matrix) or "centered" (Cov is the covariance matrix). The paper publishes neither ε nor w nor how
    Cov is normalised: those three defaults are our reading.

    Raises:
        ValueError: τ, ε or w that is not positive and finite, or another normalization.
    """

    loss: str
    tau: float = 0.5
    epsilon: float = 1.0
    offdiagonal: float = 1.0
    normalization: str = "standardized"

    def __post_init__(self) -> None:
        for name in ("tau", "epsilon", "offdiagonal"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name}: a positive finite number is expected, found {value!r}")
        if self.normalization not in ("standardized", "centered"):
            raise ValueError(f"normalization: standardized or centered is expected, found {self.normalization!r}")


def contrast(z: Tensor, z_plus: Tensor, potential: Potential, group: int | None = None) -> Tensor:
    """Contrastive column of Table 1: two views (B, …) → scalar, the mean over groups (`in_groups`).

    Computed in float32 or higher, whatever comes in.
    """
    if z.shape != z_plus.shape:
        raise ValueError(f"two views of one shape are expected, found {tuple(z.shape)} and {tuple(z_plus.shape)}")
    return _of_table_1(z, z_plus, potential, group)


def disperse(z: Tensor, potential: Potential, group: int | None = None) -> Tensor:
    """Dispersive column of Table 1: (B, …) → scalar, the mean over groups (`in_groups`).

    Computed in float32 or higher, whatever comes in. The smallest value it can take is `floor`.
    """
    return _of_table_1(z, None, potential, group)


def _of_table_1(z: Tensor, z_plus: Tensor | None, potential: Potential, group: int | None) -> Tensor:
    loss = TABLE_1[potential.loss]
    with full_precision(z.device.type):
        if loss.fused and z.device.type != "cpu":
            return loss.fused(_cut(z, group), None if z_plus is None else _cut(z_plus, group), potential)
        if z_plus is None:
            z = _cut(z, group)
            return TABLE_1[potential.loss].repel(_at_least_float32(z), None, potential).mean()
        z, z_plus = in_groups(z, group), in_groups(z_plus, group)
        return (loss.attract(z, z_plus, potential) + loss.repel(z, z_plus, potential)).mean()


def floor(potential: Potential, group: int) -> float:
    """The smallest value that `disperse` can take for a group of N samples, attained with N − 1 features or more."""
    return TABLE_1[potential.loss].lowest(potential, group)


@torch.no_grad()
def pair_health(z: Tensor, z_plus: Tensor | None, potential: Potential, group: int | None = None) -> dict[str, Tensor]:
    """ "saturated_pairs" and "pair_evenness", scalars, of one view or two (B, …); a loss without pairs has neither.

    saturated_pairs: share of the pairs i ≠ j that are pushed no more. Hinge: beyond the margin. InfoNCE: of a weight
    (the softmax of −D/τ, over all i and j of one view, over j of two) below a thousandth of that of equal distances.
    pair_evenness, InfoNCE only: exp of the entropy of the weights of pairs i ≠ j, over the number of those pairs: 1
    where all are alike, as where τ is too large to tell near from far.
    """
    distance = TABLE_1[potential.loss].distance
    if distance is None:
        return {}
    with full_precision(z.device.type):
        pairs = distance(in_groups(z, group), None if z_plus is None else in_groups(z_plus, group))  # (B/N, N, N)
        logits = -pairs / potential.tau
    different = ~torch.eye(pairs.shape[-1], dtype=torch.bool, device=z.device)  # i ≠ j
    if potential.loss == "hinge":
        return {"saturated_pairs": (pairs >= potential.epsilon)[..., different].float().mean()}
    rivals = logits.flatten(-2) if z_plus is None else logits
    weights = (rivals.softmax(-1) * rivals.shape[-1]).view_as(logits)[..., different]  # 1 for equal distances
    shares = logits[..., different].softmax(-1)  # (..., N(N − 1))
    evenness = torch.special.entr(shares).sum(-1).exp() / shares.shape[-1]
    return {"saturated_pairs": (weights < NO_PUSH).float().mean(), "pair_evenness": evenness.mean()}


def in_groups(z: Tensor, group: int | None) -> Tensor:
    """(B, …) → (B/N, N, D): contiguous groups of N samples, or all B as one; each sample flattened, float32 or higher.

    Raises:
        ValueError: fewer than two samples in a group, B that is no multiple of N, or no features.
        TypeError: numbers that are not floating-point.
    """
    return _at_least_float32(_cut(z, group))


def _at_least_float32(z: Tensor) -> Tensor:
    return z.to(torch.promote_types(z.dtype, torch.float32))


def _cut(z: Tensor, group: int | None) -> Tensor:
    if not z.is_floating_point():
        raise TypeError(f"floating-point features are expected, found {z.dtype}")
    shape, batch = tuple(z.shape), len(z) if z.dim() else 0
    size = batch if group is None else group
    if batch == 0 or z.numel() == 0:
        raise ValueError(f"features of shape (batch, …) are expected, found {shape}")
    if size < 2:
        raise ValueError(f"a group needs two samples, for the loss compares them: found {size}, in features {shape}")
    if batch % size:
        raise ValueError(f"a batch of {batch} cannot be cut into groups of {size}, in features {shape}")
    return z.reshape(batch // size, size, z.numel() // batch)


# InfoNCE. Contrastive: E_i[D(z_i, z_i⁺)/τ + log Σ_j exp(−D(z_i, z_j⁺)/τ)], j over all, the positive included.
# Dispersive: log E_{i,j}[exp(−D(z_i, z_j)/τ)].


def _attract_l2(z: Tensor, z_plus: Tensor, potential: Potential) -> Tensor:
    """E_i[D(z_i, z_i⁺)]/τ with D = ‖z_i − z_j‖² / dim, as the official code."""
    return (z - z_plus).square().mean((-2, -1)) / potential.tau


def _distance_l2(z: Tensor, z_plus: Tensor | None) -> Tensor:
    return squared_distances(z, z_plus) / z.shape[-1]


def _attract_cosine(z: Tensor, z_plus: Tensor, potential: Potential) -> Tensor:
    """E_i[D(z_i, z_i⁺)]/τ with D = −cos(z_i, z_j)."""
    return -F.cosine_similarity(z, z_plus, dim=-1).mean(-1) / potential.tau


def _distance_cosine(z: Tensor, z_plus: Tensor | None) -> Tensor:
    """As −cos = ‖u_i − u_j‖² / 2 − 1 of unit vectors u: more exact than the product where all cosines are near 1."""
    unit_plus = None if z_plus is None else F.normalize(z_plus, dim=-1)
    return squared_distances(F.normalize(z, dim=-1), unit_plus) / 2 - 1


def _repel_infonce(distance: Distance, z: Tensor, z_plus: Tensor | None, potential: Potential) -> Tensor:
    logits = distance(z, z_plus) / -potential.tau  # (..., N, N)
    if z_plus is None:
        return logits.logsumexp((-2, -1)) - 2 * math.log(logits.shape[-1])
    return logits.logsumexp(-1).mean(-1)


def _lowest_l2(potential: Potential, group: int) -> float:
    """All distances infinite: the zero diagonal is left, N of the N² pairs."""
    return -math.log(group)


def _lowest_cosine(potential: Potential, group: int) -> float:
    """A simplex: every cosine is −1/(N−1), that is 1 − N/(N−1)."""
    between = math.exp(-group / (group - 1) / potential.tau)
    return 1 / potential.tau + math.log((1 + (group - 1) * between) / group)


# Hinge, D = √(‖z_i − z_j‖² / dim) (as Hadsell et al. 2006, who square the distance in one term and not in the margin).
# Contrastive: E_i[D(z_i, z_i⁺)² + E_{j≠i}[max(0, ε − D(z_i, z_j⁺))²]]; that j ≠ i is our reading.
# Dispersive: E_{i,j}[max(0, ε − D(z_i, z_j))²], where the zero diagonal is worth ε²/N.


def _distance_hinge(z: Tensor, z_plus: Tensor | None) -> Tensor:
    return distances(z, z_plus) / math.sqrt(z.shape[-1])


def _attract_hinge(z: Tensor, z_plus: Tensor, potential: Potential) -> Tensor:
    return (z - z_plus).square().mean((-2, -1))


def _repel_hinge(z: Tensor, z_plus: Tensor | None, potential: Potential) -> Tensor:
    n = z.shape[-2]
    below = (potential.epsilon - _distance_hinge(z, z_plus)).clamp(min=0).square()
    if z_plus is None:
        return below.mean((-2, -1))
    return (below.sum((-2, -1)) - below.diagonal(dim1=-2, dim2=-1).sum(-1)) / (n * (n - 1))


def _lowest_hinge(potential: Potential, group: int) -> float:
    """All distances beyond the margin: the zero diagonal is left."""
    return potential.epsilon**2 / group


# Covariance. Contrastive: E_m[(1 − C_mm)²] + w E_{m≠n}[C_mn²], C the cross-covariance of the two views, as in Barlow
# Twins. Dispersive: E_{m,n}[Cov_mn²]. The paper writes sums; means make the value independent of D (our reading).
# C = ZᵀZ⁺/N is D × D and never built: ‖ZᵀZ⁺‖² = Σ_ij (ZZᵀ)_ij (Z⁺Z⁺ᵀ)_ij is a sum over N × N.


def _attract_covariance(z: Tensor, z_plus: Tensor, potential: Potential) -> Tensor:
    z, z_plus = _normalized(z, potential), _normalized(z_plus, potential)
    return (1 - (z * z_plus).mean(-2)).square().mean(-1)


def _repel_covariance(z: Tensor, z_plus: Tensor | None, potential: Potential) -> Tensor:
    n, d = z.shape[-2:]
    z = _normalized(z, potential)
    if z_plus is None:
        return (gram(z) / (n * d)).square().sum((-2, -1))
    assert d >= 2, "m ≠ n needs two features"
    z_plus = _normalized(z_plus, potential)
    total = ((gram(z) / n) * (gram(z_plus) / n)).sum((-2, -1))
    diagonal = (z * z_plus).mean(-2).square().sum(-1)
    return potential.offdiagonal * (total - diagonal) / (d * (d - 1))


def _normalized(z: Tensor, potential: Potential) -> Tensor:
    """Features centred over the group and, if "standardized", divided by their standard deviation (of 1/N).

    A feature that is constant over the group correlates with nothing: it becomes 0, with gradient 0. No ε is added to
    the variance, because a loss that is not invariant to scale could be lowered by shrinking the features.
    """
    mean = z.mean(-2, keepdim=True)
    centered = z - mean
    if potential.normalization == "centered":
        return centered
    variance = centered.square().mean(-2, keepdim=True)
    varies = variance > (ROUNDINGS * torch.finfo(z.dtype).eps * mean.detach()).square()
    return centered * (torch.where(varies, variance, 1).rsqrt() * varies)


def _lowest_covariance(potential: Potential, group: int) -> float:
    """N − 1 equal eigenvalues; no variance at all where it may shrink."""
    return 1 / (group - 1) if potential.normalization == "standardized" else 0.0


@dataclass(frozen=True)
class Loss:
    """A row of Table 1: what pulls two views together, what pushes samples apart, and how low the second can get.

    distance: D of the pairs that are pushed apart, (..., N, N); None where there are no pairs. fused: the mean
    over groups, of one view or two (..., N, D), by few kernels; None where a GPU takes attract and repel as well.
    constants: those of `Potential` that it has; contrastive_constants: those that only its contrastive form has.
    """

    attract: Callable[[Tensor, Tensor, Potential], Tensor]
    repel: Callable[[Tensor, Tensor | None, Potential], Tensor]
    lowest: Callable[[Potential, int], float]
    distance: Distance | None = None
    fused: Callable[[Tensor, Tensor | None, Potential], Tensor] | None = None
    constants: tuple[str, ...] = ()
    contrastive_constants: tuple[str, ...] = ()


TABLE_1: dict[str, Loss] = {
    "infonce-l2": Loss(
        _attract_l2,
        partial(_repel_infonce, _distance_l2),
        _lowest_l2,
        _distance_l2,
        lambda z, z_plus, p: fused.infonce(z, z_plus, p.tau, cosine=False),
        constants=("tau",),
    ),
    "infonce-cosine": Loss(
        _attract_cosine,
        partial(_repel_infonce, _distance_cosine),
        _lowest_cosine,
        _distance_cosine,
        lambda z, z_plus, p: fused.infonce(z, z_plus, p.tau, cosine=True),
        constants=("tau",),
    ),
    "hinge": Loss(
        _attract_hinge,
        _repel_hinge,
        _lowest_hinge,
        _distance_hinge,
        lambda z, z_plus, p: fused.hinge(z, z_plus, p.epsilon),
        constants=("epsilon",),
    ),
    "covariance": Loss(
        _attract_covariance,
        _repel_covariance,
        _lowest_covariance,
        fused=lambda z, z_plus, p: fused.covariance(z, z_plus, p.normalization == "standardized", p.offdiagonal),
        constants=("normalization",),
        contrastive_constants=("offdiagonal",),
    ),
}
