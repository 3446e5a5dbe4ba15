"""Dispersive loss (InfoNCE-ℓ2), forward and backward: ours by Gram matrix against the official form by `torch.pdist`.

They are timed in turn in one process, so that what else the machine does falls on all; the ratio is the median over
rounds. A job of ours keeps freed memory; pdist is timed without that, as the public code runs it, and with it. Errors
are relative ℓ2 errors of the gradient against float64.
Run: python benchmarks/dispersive_loss.py
"""

import argparse
import math
import statistics
from collections.abc import Callable

import torch
from side_by_side import Arm, compare, memory_as_torch_finds_it, print_table
from torch import Tensor

from harness.engine.allocator import keep_freed_memory
from harness.method.losses import Potential, disperse

TAU = 0.5
OURS, PLAIN = "by Gram matrix (ours)", "torch.pdist"
Loss = Callable[[Tensor], Tensor]


def by_gram(z: Tensor) -> Tensor:
    """Ours."""
    return disperse(z, Potential("infonce-l2", tau=TAU))


def by_pdist(z: Tensor) -> Tensor:
    """The official form: all pairs twice, and the N zeros of the diagonal."""
    pairs = torch.pdist(z).square() / z.shape[-1]
    logits = -torch.cat((pairs, pairs, z.new_zeros(len(z)))) / TAU
    return logits.logsumexp(0) - math.log(len(logits))


def gradient(loss: Loss, z: Tensor) -> Tensor:
    """Gradient of the loss at z: forward and backward."""
    z = z.detach().requires_grad_()
    (result,) = torch.autograd.grad(loss(z), z)
    return result


def _as_found(loss: Loss, z: Tensor) -> Tensor:
    with memory_as_torch_finds_it():
        return gradient(loss, z)


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
    keep_freed_memory()  # as every job of ours does
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256, help="N, samples in a group")
    parser.add_argument("--features", type=int, default=196_608, help="D, tokens × channels (SiT-B/2: 256 × 768)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved repetitions")
    arguments = parser.parse_args()
    z = torch.randn(arguments.rows, arguments.features, generator=torch.Generator().manual_seed(0))
    print(f"N={arguments.rows} D={arguments.features} float32, {torch.get_num_threads()} thread(s), forward + backward")
    with memory_as_torch_finds_it():
        found = z.clone()  # where a tensor lies matters to pdist too
    arms: dict[str, Arm] = {
        OURS: lambda k: gradient(by_gram, z),
        PLAIN: lambda k: _as_found(by_pdist, found),
        "torch.pdist, freed memory kept": lambda k: gradient(by_pdist, z),
    }
    seconds = compare(arms, arguments.pairs)
    print_table(seconds, PLAIN)
    kept = seconds["torch.pdist, freed memory kept"]
    ratio = statistics.median(slow[0] / fast[0] for slow, fast in zip(kept, seconds[OURS], strict=True))
    print(f"with freed memory kept on both sides: {ratio:.1f} times as fast, wall")
    print(f"{'':26}{'Gram (ours)':>14}{'torch.pdist':>14}")
    for mean in (0, 100):
        exact = exact_gradient(z + mean)
        errors = [(gradient(f, z + mean) - exact).norm() / exact.norm() for f in (by_gram, by_pdist)]
        print(f"{f'gradient error, mean {mean}':26}{errors[0]:14.1e}{errors[1]:14.1e}")


if __name__ == "__main__":
    main()
