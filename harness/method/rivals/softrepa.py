"""After SoftREPA (arXiv 2503.08250): soft tokens of a frozen network, learned by contrast over its denoising errors.

An image's error under its own class is to be smaller than that under the classes of its neighbours. The source tunes a
text-to-image network by the texts of a batch; with classes instead of texts it is our reading.
"""

import torch
from torch import Tensor

from harness.method.backbone import DiT
from harness.method.objective import Objective
from harness.method.processes.process import Process
from harness.method.terms import Draws


def contrast(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each row with its diagonal as the target: (G, B, B), (G, B) → its mean, a scalar.

    logits: of image i under the class of image j. Other images of the same class are left out: they are no negatives.
    """
    same = labels[:, :, None] == labels[:, None]
    others = same & ~torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)
    kept = logits.masked_fill(others, -torch.inf)
    return (kept.logsumexp(-1) - kept.diagonal(dim1=1, dim2=2)).mean()


def errors_of(net: DiT, process: Process, x: Tensor, y: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Denoising error of image i under the class of image j, at one time and with one noise for a whole matrix.

    x (G, B, C, H, W), y (G, B), t (G,), noise (G, C, H, W) → (G, B, B), the gradient with it; float32 at least.
    """
    g, b = y.shape
    images = x[:, :, None].expand(g, b, b, *x.shape[2:]).flatten(0, 2)
    times, noises = (each[:, None, None].expand(g, b, b, *each.shape[1:]).flatten(0, 2) for each in (t, noise))
    error, _ = process.loss(net, images, y[:, None].expand(g, b, b).flatten(), times, noises)
    return error.view(g, b, b)


class SoftTokenObjective(Objective):
    """Loss of a second phase, in groups of `group` images of the batch: no other sample is a negative.

    A group has the time and noise of its first image. temperature: in units of the mean error of a group's matrix,
    which has no gradient there: the published exp(−error/0.07) vanishes at errors of velocities. denoising: weight of
    the mean error of images under their own class. Labels are not dropped.
    """

    def __init__(
        self, net: DiT, process: Process, num_classes: int, group: int, temperature: float, denoising: float
    ) -> None:
        super().__init__(net, process, (), num_classes)
        self.group, self.temperature, self.denoising = group, temperature, denoising
        net.requires_grad_(False)
        assert net.soft_tokens is not None, "a second phase learns soft tokens"
        net.soft_tokens.requires_grad_(True)

    def forward(
        self, x: Tensor, y: Tensor, draws: Draws, features: Tensor | None = None, average: DiT | None = None
    ) -> dict[str, Tensor]:
        """x (N, C, H, W), y (N,) → scalars "loss" (to differentiate), "denoising" (the mean error under the own class),
        "contrast", "mismatched" (an image's mean error under the other classes of its group, or, where there are none,
        its own), and "right", the share of images whose own class has the smallest error."""
        x, y = (each.unflatten(0, (-1, self.group)) for each in (x, y))
        errors = errors_of(self.net, self.process, x, y, draws.t[:: self.group], draws.noise[:: self.group])
        own, contrasted = errors.diagonal(dim1=1, dim2=2), contrast(self.logits(errors), y)
        loss = contrasted + self.denoising * own.mean() if self.denoising else contrasted
        return {"loss": loss, "denoising": own.mean().detach(), "contrast": contrasted.detach(), **_health(errors, y)}

    def logits(self, errors: Tensor) -> Tensor:
        """−errors over the temperature, (G, B, B)."""
        return -errors / (self.temperature * errors.detach().mean((1, 2), keepdim=True))


@torch.no_grad()
def _health(errors: Tensor, labels: Tensor) -> dict[str, Tensor]:
    other = labels[:, :, None] != labels[:, None]
    own = errors.diagonal(dim1=1, dim2=2)
    right = (own <= errors.masked_fill(~other, torch.inf).amin(-1)).to(errors.dtype).mean()
    count = other.sum(-1)
    mismatched = torch.where(count > 0, (errors * other).sum(-1) / count.clamp(min=1), own)
    return {"mismatched": mismatched.mean(), "right": right}
