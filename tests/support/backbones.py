"""Small transformers with the public code's weights or with weights of their own, and what they are trained on."""

import torch
from safetensors.torch import load_file
from support.places import GOLDEN
from torch import Tensor

from harness.method.backbone import DiT
from harness.method.losses import Potential
from harness.method.randomness import generator
from harness.method.terms import ContrastiveTerm, DispersiveTerm

NULL = 10  # the label that stands for no label
SHAPE = (8, 4, 8, 8)
SIT = load_file(GOLDEN / "disp_given.safetensors")


def dispersive(blocks: tuple[int, ...] = (1,), group: int = 4) -> DispersiveTerm:
    return DispersiveTerm(Potential("infonce-l2"), 0.5, blocks, group)


def contrastive(blocks: tuple[int, ...] = (1,), group: int = 4, gap: float | None = None) -> ContrastiveTerm:
    return ContrastiveTerm(Potential("infonce-l2"), 0.5, blocks, group, gap)


DISPERSIVE, CONTRASTIVE, RESTRICTED = dispersive(), contrastive(), contrastive(gap=0.1)
ARMS = [(), (DISPERSIVE,), (CONTRASTIVE,), (RESTRICTED,)]


def build(**options) -> DiT:
    return DiT(8, 2, 4, 48, 3, 3, num_classes=NULL, **options)


def with_weights(net: DiT, tensors: dict[str, Tensor], prefix: str) -> DiT:
    """Return the network with the weights that a golden file holds under a prefix."""
    weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    net.load_state_dict({"pos_embed": net.pos_embed, **weights}, strict=True)
    return net.eval()


def given(head: str) -> DiT:
    """Return a SiT of the public code; the head "sit_ls" has a variance half that SiT ignores."""
    return with_weights(build(learn_sigma=head == "sit_ls"), SIT, f"{head}.weights/")


def moved(net: DiT) -> DiT:
    """Return the network, moved away from the identity, so that every block acts."""
    for name, weight in net.named_parameters():
        if "adaLN" in name or "final" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=generator(0, name, 0))
    return net


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(*SHAPE, generator=generator(1, "x", 0))
    return x, torch.arange(SHAPE[0]) % 10
