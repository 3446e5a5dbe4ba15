"""The passes of a SiT training step with each term of Table 8 beside those without one, in turn, in one process.

They are what a step takes for each image, forward and backward; AdamW and the moving average, which are of a step and
not of an image, are left out. Latents are random, and REPA's features are given: what its encoder takes is not here.
Beside each the floor: 1 + the operations that the term adds over those of a step, as `plan` counts them. What lies
above it is ours to save, the rest is the method's. Run: OMP_NUM_THREADS=1 python benchmarks/term_step.py --size B
"""

import argparse
import statistics
from typing import Any

import torch
from side_by_side import Arm, compare
from torch import Tensor
from training_step import DEVICE, SIZES, Precision, random_data, spec

from harness.config.plugin_parts import resolve_term
from harness.config.settings.term_settings import OWN_KEYS, TERMS
from harness.config.spec import Alignment, TrainSpec
from harness.engine.allocator import keep_freed_memory
from harness.method.backbone import DiT
from harness.method.objective import Objective, draw
from harness.networks.build import build_net, build_process, build_terms
from harness.planning import flops

ENCODER, WIDTH = "vit_base_patch14_dinov2.lvd142m", 768


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


def passes_of(chosen: TrainSpec, net: DiT, x: Tensor, y: Tensor) -> Arm:
    """Return the passes of a training step on a network that all arms share; it is its own average."""
    aligned = chosen.alignment is not None
    terms = [term.initialise(0).to(DEVICE) for term in build_terms(chosen, WIDTH if aligned else None)]
    objective = Objective(net, build_process(chosen), terms, chosen.data.classes)
    features = torch.randn(len(x), flops.tokens(chosen), WIDTH, device=DEVICE) if aligned else None
    bf16 = chosen.precision == "bf16"

    def passes(k: int) -> None:
        draws = draw(objective.process, terms, x.shape, chosen.label_drop, 0, k).map(lambda drawn: drawn.to(DEVICE))
        objective.zero_grad()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            loss = objective(x, y, draws, features, net)["loss"]
        loss.backward()

    return passes


def main() -> None:
    """Print the time of each term's passes over the plain ones', beside its floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="ARM", help="beside the plain step, which is timed twice")
    options = parser.parse_args()
    keep_freed_memory()
    chosen = arms(options.size, options.batch, options.precision)
    if options.only:
        chosen = {name: chosen[name] for name in ("none", "none, again", *options.only)}
    x, y = random_data(options.batch).batch(torch.arange(options.batch).numpy(), ())
    net = build_net(chosen["none"]).initialise(0).to(DEVICE)
    timed = {name: passes_of(arm, net, x.to(DEVICE), y.to(DEVICE)) for name, arm in chosen.items()}
    seconds = compare(timed, options.rounds)
    print(f"{'':14}{'CPU s':>8}{'over none':>11}{'floor':>8}")
    for name, taken in seconds.items():
        ratio = statistics.median(own[1] / base[1] for own, base in zip(taken, seconds["none"], strict=True))
        floor = _operations(chosen[name]) / _operations(chosen["none"])
        print(f"{name:14}{statistics.median(cpu for _, cpu in taken):8.3f}{ratio:11.3f}{floor:8.3f}")


def _operations(chosen: TrainSpec) -> float:
    """Operations of an image's passes, without the encoder's."""
    shape = flops.encoder(chosen.alignment) if chosen.alignment else None
    return flops.training(chosen) - (shape.forward(3) if shape else 0)


if __name__ == "__main__":
    main()
