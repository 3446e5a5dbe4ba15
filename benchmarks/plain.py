"""The training step and the sampler of the public SiT and Dispersive Loss code, plainly: what ours is timed against.

Eager float32, AdamW as torch makes it by default, the moving average in a loop over the parameters, the loss by
`torch.pdist` over all pairs. The network is ours: its layers are the public one's.
"""

from copy import deepcopy

import torch
from torch import Tensor

from harness.method.backbone import DiT

DECAY, LABEL_DROP, LAMBDA, TAU, BLOCK = 0.9999, 0.1, 0.5, 0.5, 3


class PlainTraining:
    """One training step after the other, on latents and labels that are there already."""

    def __init__(self, net: DiT, null_label: int) -> None:
        self.net, self.null_label = net, null_label
        self.ema = deepcopy(net)
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)

    def step(self, x: Tensor, y: Tensor) -> None:
        """x (N, C, H, W), y (N,): draw, predict the velocity, disperse one block's output, step, average."""
        y = torch.where(torch.rand(len(y), device=y.device) < LABEL_DROP, self.null_label, y)
        t, noise = torch.rand(len(x), device=x.device), torch.randn_like(x)
        column = t[:, None, None, None]
        velocity, (h,) = self.net(column * x + (1 - column) * noise, (t,), y, (BLOCK,))
        loss = (velocity - (x - noise)).square().mean() + LAMBDA * disperse_by_pdist(h.flatten(1))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        average(self.ema, self.net)


def disperse_by_pdist(z: Tensor) -> Tensor:
    """log of the mean of exp(−‖z_i − z_j‖²/(D τ)) over all ordered pairs, the N zeros of the diagonal included."""
    pairs = torch.pdist(z).square() / z.shape[1]
    return torch.cat((pairs, pairs, z.new_zeros(len(z)))).div(-TAU).exp().mean().log()


@torch.no_grad()
def average(ema: torch.nn.Module, net: torch.nn.Module) -> None:
    """Move every parameter's average by itself."""
    for slow, fast in zip(ema.parameters(), net.parameters(), strict=True):
        slow.mul_(DECAY).add_(fast.detach(), alpha=1 - DECAY)


@torch.no_grad()
def heun(net: DiT, noise: Tensor, y: Tensor, intervals: int, guidance: float, null_label: int) -> Tensor:
    """Integrate the velocity from t = 0 to 1 by Heun's rule, guided on the first three channels in a doubled batch."""

    def velocity(x: Tensor, t: float) -> Tensor:
        both = torch.cat((y, torch.full_like(y, null_label)))
        out, _ = net(torch.cat((x, x)), (x.new_full((2 * len(x),), t),), both)
        conditional, unconditional = out.chunk(2)
        mixed = unconditional[:, :3] + guidance * (conditional[:, :3] - unconditional[:, :3])
        return torch.cat((mixed, conditional[:, 3:]), dim=1)

    x, step = noise, 1 / intervals
    for k in range(intervals):
        first = velocity(x, k * step)
        second = velocity(x + step * first, (k + 1) * step)
        x = x + step / 2 * (first + second)
    return x
