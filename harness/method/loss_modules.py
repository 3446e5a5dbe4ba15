"""Table 1 of the paper as modules for a trainer of one's own; the formulas are those of `losses`."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, Self, TypedDict, Unpack

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harness.method.losses import TABLE_1, Potential, contrast, disperse

# grids/presets has the same, with what is the optimiser's. "paper": 16 devices of 16. "official-pytorch": 8 of 32.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"weight": 0.5, "tau": 0.5, "group": 16},
    "official-pytorch": {"weight": 0.25, "tau": 1.0, "group": 32},
}


def outside_graphs(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.compiler.disable`, which imports the compiler: with the first call, as torch's optimisers do, not before.

    Which precision a product is multiplied in is a global setting, which no graph holds.
    """
    disabled: list[Callable[..., Tensor]] = []

    @wraps(forward)
    def call(*args: Any) -> Tensor:
        if not disabled:
            disabled.append(torch.compiler.disable(forward, reason="computed in full precision"))
        return disabled[0](*args)

    return call


class Constants(TypedDict, total=False):
    """The constants of the variants, as `Potential` explains them; its defaults are theirs."""

    tau: float
    epsilon: float
    offdiagonal: float
    normalization: str


class _Gathered(torch.autograd.Function):
    """The samples of all processes, rank by rank: (B, …) → (processes × B, …).

    All compute the same value of them, so each process knows the gradient of its own samples without asking; times the
    number of processes, because DistributedDataParallel takes the mean.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.chunk(dist.get_world_size())[dist.get_rank()] * dist.get_world_size()


class RepulsiveLoss(nn.Module):
    """What the two losses share: their variant, their pairs, and their weight. No parameters, no buffers.

    variant: row of Table 1: "infonce-l2", "infonce-cosine", "hinge" or "covariance". constants: those of the variant:
    tau > 0 (InfoNCE, 0.5), epsilon > 0 (hinge, 1.0), normalization, "standardized" or "centered" (covariance), and
    offdiagonal > 0 (contrastive covariance, 1.0). group: pairs are formed inside contiguous groups of this many
    samples, and the value is the mean over groups; None takes the whole batch. gather: pairs are formed among the
    samples of all processes of `torch.distributed`, rank by rank, which must have as many each; False keeps to one's
    own, as the paper's code does. weight: λ; the value is multiplied by it.

    Gradients with `gather`: every process computes the same value of the same samples, and the gradients that
    DistributedDataParallel averages are those of one process with the whole batch.

    Raises:
        ValueError: no such variant; a constant that it does not have, or out of its range; a group below 2.
    """

    views: ClassVar[int]

    def __init__(
        self,
        variant: str = "infonce-l2",
        *,
        group: int | None = None,
        gather: bool = False,
        weight: float = 1.0,
        **constants: Unpack[Constants],
    ) -> None:
        super().__init__()
        if variant not in TABLE_1:
            raise ValueError(f"variant: one of {', '.join(TABLE_1)} is expected, found {variant!r}")
        own = self.constants_of(variant)
        if foreign := sorted(set(constants) - set(own)):
            raise ValueError(f"{variant} has no {', '.join(foreign)}: its constants are {', '.join(own)}")
        if group is not None and group < 2:
            raise ValueError(f"group: two samples or more are expected, for the loss compares them; found {group}")
        self.potential = Potential(variant, **constants)
        self.group, self.gather, self.weight = group, gather, weight

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The loss as the "paper" (λ 0.5, τ 0.5, groups of 16) or the authors' release ("official-pytorch") has it.

        The release: λ 0.25, τ 1, groups of 32. changes: arguments that replace the preset's, such as group=None.

        Raises:
            ValueError: no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"preset: one of {', '.join(PRESETS)} is expected, found {name!r}")
        return cls(**(PRESETS[name] | changes))

    @classmethod
    def constants_of(cls, variant: str) -> tuple[str, ...]:
        """Names of the constants that the variant has in this loss."""
        loss = TABLE_1[variant]
        return loss.constants + (loss.contrastive_constants if cls.views == 2 else ())

    def extra_repr(self) -> str:
        """The settings, for print(model)."""
        own = self.constants_of(self.potential.loss)
        constants = "".join(f", {name}={getattr(self.potential, name)!r}" for name in own)
        rest = f"group={self.group}, gather={self.gather}, weight={self.weight}"
        return f"{self.potential.loss!r}{constants}, {rest}"

    def _of_all_processes(self, z: Tensor) -> Tensor:
        if not (self.gather and dist.is_available() and dist.is_initialized()):
            return z
        gathered: Tensor = _Gathered.apply(z.contiguous())
        return gathered


class DispersiveLoss(RepulsiveLoss):
    """Dispersive Loss (Wang & He 2025, arXiv 2506.09027): one view of the samples, pushed apart; a scalar, unitless.

    Calling it with features z (B, …) of any shape flattens each sample and returns weight × L_Disp, computed in float32
    (float64 of float64), under autocast too. "infonce-l2" is log E_ij exp(−‖z_i − z_j‖² / (D τ)), i = j included.
    """

    views = 1

    @outside_graphs
    def forward(self, z: Tensor) -> Tensor:
        """z (B, …) → scalar.

        Raises:
            ValueError: a batch of one, a batch that the groups do not divide, or no features.
            TypeError: features that are not floating-point.
        """
        return self.weight * disperse(self._of_all_processes(z), self.potential, self.group)


class ContrastiveLoss(RepulsiveLoss):
    """The contrastive column of Table 1: two views of each sample attract, different samples repel.

    Calling it with views z1 and z2 (B, …), whose i-th samples belong together, returns weight × L_Contr.
    """

    views = 2

    @outside_graphs
    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Two views (B, …) → scalar.

        Raises:
            ValueError: two shapes; a batch of one, a batch that the groups do not divide, or no features.
            TypeError: features that are not floating-point.
        """
        z1, z2 = self._of_all_processes(z1), self._of_all_processes(z2)
        return self.weight * contrast(z1, z2, self.potential, self.group)
