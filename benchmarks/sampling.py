"""Sampling from SiT by Heun's rule with guidance: ours in float32 and bf16 against a plain loop (`plain.py`).

Both evaluate the network on the same images; the weights are random, on which the time does not depend.
Run: python benchmarks/sampling.py --model S
"""

import argparse

import torch
from plain import heun
from side_by_side import Arm, compare, print_table
from training_step import DEVICE, SIZES, Precision, spec

from harness.method.backbone import DiT
from harness.method.guidance import guided
from harness.method.processes import flow
from harness.networks.build import build_objective

PLAIN, GUIDANCE, NULL = "plain, fp32", 1.5, 1000


def ours(net: DiT, noise: torch.Tensor, y: torch.Tensor, intervals: int, precision: Precision) -> Arm:
    """Return our sampler in a precision."""
    guide = guided(net, GUIDANCE, "three", NULL)

    def sample(k: int) -> None:
        with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
            flow.sample(guide, noise, y, "heun", intervals, lambda step: noise)

    return sample


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="S")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--intervals", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    net = build_objective(spec(chosen.model, 2, "fp32", False)).net.to(DEVICE).eval()
    noise = torch.randn(chosen.images, 4, 32, 32, device=DEVICE)
    y = torch.arange(chosen.images, device=DEVICE)
    print(f"SiT-{chosen.model}/2, {chosen.images} images, {chosen.intervals} Heun intervals, {DEVICE}, "
          f"{torch.get_num_threads()} thread(s)")  # fmt: skip

    def plain(k: int) -> None:
        heun(net, noise, y, chosen.intervals, GUIDANCE, NULL)

    arms: dict[str, Arm] = {PLAIN: plain}
    for precision in ("fp32", "bf16"):
        arms[f"ours, {precision}"] = ours(net, noise, y, chosen.intervals, precision)
    print_table(compare(arms, chosen.rounds), PLAIN)


if __name__ == "__main__":
    main()
