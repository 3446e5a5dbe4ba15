"""The moving average of a network's weights: over all tensors at once, against a loop over parameters.

Then the relative error of both against float64 after many updates. Run: python benchmarks/ema.py --model S
"""

import argparse

import torch
from plain import DECAY, average
from side_by_side import Arm, compare, print_table
from training_step import DEVICE, SIZES, spec

from harness.engine.moving_average import MovingAverage
from harness.networks.build import build_objective

LOOP, OURS = "loop of mul_ and add_", "ours"


def errors(updates: int) -> dict[str, float]:
    """Average a walk of small steps around 1 and return each way's relative ℓ2 error."""
    g = torch.Generator().manual_seed(0)
    slow, fast = torch.nn.Linear(256, 256), torch.nn.Linear(256, 256)
    for module in (slow, fast):
        for weight in module.parameters():
            torch.nn.init.ones_(weight)
    average_of = MovingAverage(fast, DECAY)
    exact = torch.ones(256, 256, dtype=torch.float64)
    for _ in range(updates):
        fast.weight.data += 1e-3 * torch.randn(256, 256, generator=g)
        exact += (1 - DECAY) * (fast.weight.detach().double() - exact)
        average(slow, fast)
        average_of.update()
    found = {LOOP: slow.weight, OURS: average_of.net.get_parameter("weight")}
    return {name: float((weight.detach().double() - exact).norm() / exact.norm()) for name, weight in found.items()}


def main() -> None:
    """Print the times and the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="S")
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    net = build_objective(spec(chosen.model, 2, "fp32", False)).net.to(DEVICE)
    average_of = MovingAverage(net, DECAY)
    slow = build_objective(spec(chosen.model, 2, "fp32", False)).net.to(DEVICE)
    arms: dict[str, Arm] = {LOOP: lambda k: average(slow, net), OURS: lambda k: average_of.update()}
    print(f"SiT-{chosen.model}/2, {DEVICE}, {torch.get_num_threads()} thread(s)")
    print_table(compare(arms, chosen.rounds), LOOP)
    for name, error in errors(10_000).items():
        print(f"error against float64 after 10,000 updates, {name}: {error:.1e}")


if __name__ == "__main__":
    main()
