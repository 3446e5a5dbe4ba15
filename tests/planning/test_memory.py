"""The memory of a training: against what torch keeps for the backward pass, and what is said to fit into so much."""

import pytest
import torch
from support.specs import make_spec

from harness.config.spec import Model, Regularizer
from harness.method.objective import draw
from harness.networks.build import build_objective
from harness.planning import memory
from harness.planning.flops import parameters

GIB = 2**30
IMAGES = 16


def spec(depth=3, width=128, kind="dispersive", block=1, **others):
    """Return a training on 8 × 8 tokens."""
    noise = {"noise": "independent"} if kind == "contrastive" else {}
    loss = Regularizer(kind=kind, loss="infonce-l2", blocks=(block,), group=16, tau=0.5, **{"lambda": 0.5}, **noise)
    data = make_spec().data.model_copy(update={"size": 16, "channels": 4})
    model = Model(depth=depth, width=width, heads=4, patch=2)
    return make_spec(**{"data": data, "model": model, "batch": IMAGES, "regularizer": loss} | others)


def kept_by_torch(chosen):
    """Bytes of all storages that a forward pass keeps, but for the parameters themselves."""
    objective = build_objective(chosen)
    own = {tensor.data_ptr() for tensor in (*objective.parameters(), *objective.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes(), tensor  # the tensor, lest another come to lie there
        return tensor

    x, y = torch.zeros(IMAGES, 4, 16, 16), torch.zeros(IMAGES, dtype=torch.long)
    draws = draw(objective.process, tuple(objective.terms), x.shape, 0.1, 0, 0)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=chosen.precision == "bf16")
    with autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective(x=x, y=y, draws=draws, features=None, average=None)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize(
    "chosen",
    [
        spec(precision="fp32"),
        spec(precision="bf16"),
        spec(depth=5, precision="bf16"),
        spec(width=256, precision="bf16", regularizer=None),
        spec(precision="bf16", kind="contrastive", block=2),
    ],
    ids=["fp32", "bf16", "deep", "wide, without the loss", "contrastive"],
)
def test_the_formula_is_what_torch_keeps(chosen):
    copies = 2 * parameters(chosen) if chosen.precision == "bf16" else 0
    assert memory.kept_bytes(chosen, IMAGES) + copies == pytest.approx(kept_by_torch(chosen), rel=0.1)


def paper(depth, width, heads):
    """Return one of the paper's sizes at its batch."""
    data = make_spec().data.model_copy(update={"size": 32, "channels": 4, "classes": 1000})
    model = Model(depth=depth, width=width, heads=heads, patch=2)
    return spec(data=data, model=model, batch=256, precision="bf16")


XL = paper(28, 1152, 16)


def needed(chosen, micro_batch, again=False):
    return memory.CONTEXT + memory.state_bytes(chosen) + memory.kept_bytes(chosen, micro_batch, again)


def test_the_largest_micro_batch_that_fits_is_proposed():
    for gibibytes in (24, 32, 48, 80, 141):
        fit, budget = memory.fit(XL, gibibytes * GIB, 64), memory.SHARE * gibibytes * GIB
        assert needed(XL, fit.micro_batch, fit.again) <= budget
        assert fit.micro_batch == XL.batch or needed(XL, 2 * fit.micro_batch, fit.again) > budget
    assert memory.fit(XL, 141 * GIB, 64).words(256) == "whole batch"
    assert memory.fit(XL, 80 * GIB, 64).words(256) == "with resources.micro_batch=128"


def test_no_micro_batch_tears_a_group_apart_and_blocks_are_computed_again_first():
    fit = memory.fit(XL, 20 * GIB, 64)
    assert (fit.again, fit.micro_batch >= 16) == (True, True)
    assert "resources.checkpoint_blocks=true" in fit.words(256)
    assert memory.fit(XL, 12 * GIB, 64) is None


def test_as_many_small_trainings_share_a_card_as_fit():
    small = paper(12, 384, 6)
    fit = memory.fit(small, 80 * GIB, 64)
    assert memory.fit(small, 80 * GIB, 2).words(256) == (
        "whole batch, room for 2 at once (--jobs 2 --set resources.jobs_per_gpu=2)"
    )
    assert fit.at_once * needed(small, 256) <= memory.SHARE * 80 * GIB < (fit.at_once + 1) * needed(small, 256)
