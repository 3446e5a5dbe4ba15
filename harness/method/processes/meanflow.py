"""MeanFlow (Geng et al. 2025): one step from noise to data, by the average velocity u of z_t = (1 − t) x + t e.

t = 0 is data and t = 1 noise; v = e − x. Going back from t to r, z_r = z_t − (t − r) u(z_t, r, t); where r = t, u is
the velocity itself. u obeys u = v − (t − r) du/dt, d/dt taken along the flow at fixed r, and is learnt from that.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.method.precision import plain_attention
from harness.method.processes import flow
from harness.method.processes.process import Denoiser, Tapped, Taps, column

LOGIT_MEAN, LOGIT_DEVIATION = -0.4, 1.0
PERIOD = 4  # one sample in four has r < t
OFFSET = 0.01  # keeps the adaptive weight finite


@dataclass(frozen=True)
class MeanFlow:
    """The process; its times are (N, 2): t and t − r.

    null_label: a sample that carries it had its label dropped. omega, kappa, start, end: guidance in the target, for
    t in [start, end]; ω = 1 with κ = 0 is none. power: p of the adaptive weight; 0 leaves the squared error.
    positions: of the samples with r = t and those with r < t, by `with_split`.
    """

    null_label: int
    omega: float = 1.0
    kappa: float = 0.0
    start: float = 0.0
    end: float = 1.0
    power: float = 1.0
    positions: tuple[Tensor, ...] = ()

    def draw_times(self, n: int, generator: torch.Generator) -> Tensor:
        """(t, t − r), (N, 2): the larger of two logit-normal draws is t, the smaller is r, but r = t for three in four.

        The official code has r < t in the last quarter of each device's batch. Samples being independent, every fourth
        is the same law, and so every rank, micro-batch and group of the regulariser has its quarter.
        """
        draws = torch.sigmoid(LOGIT_MEAN + LOGIT_DEVIATION * torch.randn(2, n, generator=generator))
        t, r = draws.amax(0), draws.amin(0)
        return torch.stack((t, torch.where(torch.arange(n) % PERIOD == PERIOD - 1, t - r, 0)), dim=1)

    # t and t − r move alike: r stands still unless one of the two is clamped.
    nearby_times = staticmethod(flow.nearby_times)

    def times_at(self, share: float) -> Tensor:
        """t = u with r = t, (1, 2): the velocity itself."""
        return torch.tensor([[share, 0.0]])

    def place_drops(self, dropped: Tensor) -> Tensor:
        """Move dropped labels, (N,) bool, to the front of their four, away from the sample with r < t.

        The official code drops the first labels of each device's batch, as many as it drew: all have r = t.
        """
        fours = torch.nn.functional.pad(dropped, (0, -len(dropped) % PERIOD)).view(-1, PERIOD)
        return fours.sort(dim=1, descending=True).values.flatten()[: len(dropped)]

    def split(self, t: Tensor) -> tuple[Tensor, ...]:
        """Positions of the samples with r = t, and of those with r < t, whose target needs du/dt: (n,), (N − n,)."""
        order, n = t[:, 1].argsort(stable=True), int((t[:, 1] == 0).sum())
        return order[:n], order[n:]

    def with_split(self, split: tuple[Tensor, ...]) -> "MeanFlow":
        """The same process for samples that `split` has split."""
        return replace(self, positions=split)

    def interpolate(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """z_t = (1 − t) x + t noise: (N, C, H, W), (N, 2), (N, C, H, W) → (N, C, H, W)."""
        t = column(t[:, 0])
        return (1 - t) * x + t * noise

    def weigh(self, error: Tensor) -> Tensor:
        """w ‖u − u_tgt‖², w = 1/(‖u − u_tgt‖² + 0.01)^p a constant: about 1 each at p = 1, whatever the error; (N,)."""
        return error / (error.detach() + OFFSET) ** self.power

    def loss(self, net: Denoiser, x: Tensor, y: Tensor, t: Tensor, noise: Tensor, taps: Taps = ()) -> Tapped:
        """‖u − u_tgt‖² summed over C H W, u_tgt = v − (t − r) du/dt a constant: (N,), and the tapped block outputs.

        Each sample goes through the network once. Where r = t the target is v: only the others need du/dt, and the JVP.
        """
        z, v = self.interpolate(x, t, noise), noise - x
        still, moving = self.positions or self.split(t)
        order, n = torch.cat((still, moving)), len(still)
        z, v, y, t = z[order], v[order], y[order], t[order]
        u, h = net(z[:n], t[:n].unbind(1), y[:n], taps)
        v = self._guide(net, z, v, y, t, u.detach())
        u_moving, du_dt, h_moving = velocity_and_derivative(net, z[n:], t[n:], y[n:], v[n:], taps)
        target = torch.cat((v[:n], v[n:] - column(t[n:, 1]) * du_dt))
        error = (torch.cat((u, u_moving)) - target).square().flatten(1).sum(1)
        back = order.argsort()
        return error[back], [torch.cat(both)[back] for both in zip(h, h_moving, strict=True)]

    @torch.no_grad()
    def _guide(self, net: Denoiser, z: Tensor, v: Tensor, y: Tensor, t: Tensor, u: Tensor) -> Tensor:
        """v of all samples, guided; u is that of the first ones, those with r = t: their conditional velocity."""
        if self.omega == 1 and self.kappa == 0:
            return v
        n, now = len(u), (t[:, 0], torch.zeros_like(t[:, 0]))
        null, _ = net(z, now, torch.full_like(y, self.null_label))
        moving, _ = net(z[n:], (now[0][n:], now[1][n:]), y[n:])
        return self.guided_velocity(v, torch.cat((u, moving)), null, y, t)

    def guided_velocity(self, v: Tensor, conditional: Tensor, null: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """ω v + κ conditional + (1 − ω − κ) null where t is in the interval and the label was not dropped, v elsewhere.

        conditional, null (N, C, H, W): the network's own velocities u(z_t, t, t) with and without the label.
        """
        guided = self.omega * v + self.kappa * conditional + (1 - self.omega - self.kappa) * null
        where = (t[:, 0] >= self.start) & (t[:, 0] <= self.end) & (y != self.null_label)
        return torch.where(column(where), guided, v)


def velocity_and_derivative(
    net: Denoiser, z: Tensor, t: Tensor, y: Tensor, v: Tensor, taps: Taps = ()
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """u, du/dt = v ∂u/∂z + ∂u/∂t at fixed r (detached), and the tapped block outputs, in one pass: one JVP.

    z, v (N, C, H, W), t (N, 2). u and the block outputs carry the gradient of a plain forward pass.
    """

    def forward(z: Tensor, now: Tensor, span: Tensor) -> Tapped:
        return net(z, (now, span), y, taps)

    now, span = t.unbind(1)
    tangents = (v, torch.ones_like(now), torch.ones_like(span))  # r stands still: t − r moves as t does
    # The fused attention kernels have no forward mode; nor have compiled blocks, and torch, once asked for it, would
    # compile them no more for as long as the process lives.
    with plain_attention(), torch.compiler.set_stance("force_eager"):
        outputs: Any = torch.func.jvp(forward, (z, now, span), tangents)
    (u, h), (du_dt, _) = outputs
    return u, du_dt.detach(), h


@torch.no_grad()
def sample(net: Denoiser, noise: Tensor, y: Tensor, intervals: int) -> Tensor:
    """Go from noise (N, C, H, W) at t = 1 to samples at t = 0 in equal steps z ← z − (t − r) u: one evaluation each."""
    assert intervals >= 1, intervals
    z = noise
    for k in range(intervals, 0, -1):
        u, _ = net(z, (z.new_full((len(z),), k / intervals), z.new_full((len(z),), 1 / intervals)), y)
        z = z - u.to(z.dtype) / intervals
    return z
