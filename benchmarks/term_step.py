"""A training step of SiT with each term of Table 8 beside the step without one, in turn, in one process.

Latents are random, and REPA's features are given: what its encoder takes is not here. Then the operations that `plan`
counts for each. Run: OMP_NUM_THREADS=1 python benchmarks/term_step.py --size S --batch 8 --rounds 5
"""

import argparse
import statistics
from typing import Any, cast

import torch
from side_by_side import Arm, compare
from torch import Tensor, nn
from training_step import DEVICE, Precision, ours, random_data, spec

from harness.config.plugin_parts import resolve_term
from harness.config.settings.resources import Resources
from harness.config.settings.term_settings import OWN_KEYS, TERMS
from harness.config.spec import Alignment, TrainSpec
from harness.engine.allocator import keep_freed_memory
from harness.engine.train import Trainer
from harness.networks.encoder import FrozenEncoder
from harness.planning import flops

ENCODER = "vit_base_patch14_dinov2.lvd142m"


class GivenFeatures(nn.Module):
    """What stands in for a frozen encoder, and takes nothing."""

    features: Tensor

    def __init__(self, tokens: int, width: int = 768) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("features", torch.randn(tokens, width))

    def forward(self, images: Tensor) -> Tensor:
        """(N, …) → (N, T, E)."""
        return self.features.expand(len(images), -1, -1)


def arms(size: str, batch: int, precision: Precision) -> dict[str, TrainSpec]:
    """Return the step without a term, and with each."""
    plain = spec(size, batch, precision, dispersive=False)
    rivals = [kind for kind in TERMS.built_in if kind not in OWN_KEYS]
    depth, group = plain.model.depth, min(32, batch)
    own = {kind: {"group": group} if kind == "diversedit" else {} for kind in rivals}
    terms = {k: resolve_term(TERMS[k], k, {"kind": k, **own[k]}, depth, lambda epochs: epochs) for k in rivals}
    repa: dict[str, Any] = {"loss": "cosine", "coefficient": 0.5, "block": 4, "encoder": ENCODER, "side": 224}
    return {
        "none": plain,
        "none, again": plain,
        "dispersive": spec(size, batch, precision, dispersive=True),
        **{kind: plain.model_copy(update={"terms": (term,)}) for kind, term in terms.items()},
        "REPA": plain.model_copy(update={"alignment": Alignment(hidden=2048, **repa)}),
        "iREPA": plain.model_copy(update={"alignment": Alignment(kernel=3, alpha=0.6, **repa)}),
    }


def step_of(chosen: TrainSpec, batch: int) -> Arm:
    """Return a training step, whose features are given where it aligns."""
    data = random_data(batch)
    if chosen.alignment is None:
        return ours(chosen, data, Resources())
    given = cast(FrozenEncoder, GivenFeatures(flops.tokens(chosen)))
    return Trainer(chosen, data, DEVICE, Resources(), encoder=given).step


def main() -> None:
    """Print each term's step over the plain one, and its operations over the plain one's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("S", "B"), default="S")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    chosen = arms(options.size, options.batch, options.precision)
    seconds = compare({name: step_of(arm, options.batch) for name, arm in chosen.items()}, options.rounds)
    frozen = flops.ENCODERS[ENCODER.partition(".")[0]]
    print(f"{'':14}{'CPU s':>8}{'over none':>11}{'operations':>12}")
    for name, taken in seconds.items():
        ratio = statistics.median(own[1] / base[1] for own, base in zip(taken, seconds["none"], strict=True))
        counted = flops.training(chosen[name]) - (_encoder(frozen) if chosen[name].alignment else 0)
        share = counted / flops.training(chosen["none"])
        print(f"{name:14}{statistics.median(cpu for _, cpu in taken):8.3f}{ratio:11.3f}{share:12.3f}")


def _encoder(shape: flops.Encoder) -> int:
    return flops.Encoder(shape.width, shape.depth, shape.patch, 224, shape.prefix, shape.ratio).forward(3)


if __name__ == "__main__":
    main()
