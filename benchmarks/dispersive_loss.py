"""Dispersive loss (InfoNCE-ℓ2), forward and backward: ours by Gram matrix against the official form by `torch.pdist`.

Both are timed in turn in one process, so that what else the machine does falls on both; the ratio is the median over
pairs. Errors are relative ℓ2 errors of the gradient against float64. Run: python benchmarks/dispersive_loss.py
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from harness.method.losses import Potential, disperse

TAU = 0.5
Loss = Callable[[Tensor], Tensor]


def by_gram(z: Tensor) -> Tensor:
    """Ours."""
    return disperse(z, Potential("infonce-l2", tau=TAU))


def by_pdist(z: Tensor) -> Tensor:
    """The official form: all pairs twice, and the N zeros of the diagonal."""
    pairs = torch.pdist(z).square() / z.shape[-1]
    logits = -torch.cat((pairs, pairs, z.new_zeros(len(z)))) / TAU
    return logits.logsumexp(0) - math.log(len(logits))


def gradient(loss: Loss, z: Tensor) -> tuple[Tensor, float]:
    """Gradient of the loss at z, and the seconds that forward and backward took."""
    z = z.detach().requires_grad_()
    start = time.perf_counter()
    (result,) = torch.autograd.grad(loss(z), z)
    return result, time.perf_counter() - start


def exact_gradient(z: Tensor) -> Tensor:
    """In float64, from the definition: Σ_j (w_ij + w_ji)(z_i − z_j), w the softmax over all pairs times −2 / (τ D)."""
    z = z.double()
    squares = z.new_zeros(len(z), len(z))
    squares[tuple(torch.triu_indices(len(z), len(z), 1))] = torch.pdist(z).square()
    logits = -(squares + squares.mT) / z.shape[1] / TAU
    weight = logits.flatten().softmax(0).view_as(logits) * (-4 / TAU / z.shape[1])
    return (weight.sum(1).diag() - weight) @ (z - z.mean(0))


def main() -> None:
    """Print the time ratio and the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256, help="N, samples in a group")
    parser.add_argument("--features", type=int, default=196_608, help="D, tokens × channels (SiT-B/2: 256 × 768)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved repetitions")
    arguments = parser.parse_args()
    z = torch.randn(arguments.rows, arguments.features, generator=torch.Generator().manual_seed(0))
    print(f"N={arguments.rows} D={arguments.features} float32, {torch.get_num_threads()} thread(s), forward + backward")
    print(f"{'':26}{'Gram (ours)':>14}{'torch.pdist':>14}")
    gradient(by_gram, z)  # the first call pays for what later ones share
    times = [(gradient(by_gram, z)[1], gradient(by_pdist, z)[1]) for _ in range(arguments.pairs)]
    gram, pdist = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(slow / fast for fast, slow in times)
    print(f"{'median seconds':26}{gram:14.3f}{pdist:14.3f}   pdist / Gram, median of pairs: {ratio:.1f}")
    for mean in (0, 100):
        exact = exact_gradient(z + mean)
        errors = [(gradient(f, z + mean)[0] - exact).norm() / exact.norm() for f in (by_gram, by_pdist)]
        print(f"{f'gradient error, mean {mean}':26}{errors[0]:14.1e}{errors[1]:14.1e}")


if __name__ == "__main__":
    main()
