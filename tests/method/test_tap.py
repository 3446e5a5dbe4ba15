"""Outputs collected from inside a network: those of its forward pass, with their gradients, and nothing left behind."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel
from torch.utils.checkpoint import checkpoint

from harness import DispersiveLoss, tap


class Block(nn.Module):
    """Returns a tensor, or more beside it."""

    def __init__(self, kind: str = "tensor") -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(5, 5), kind

    def forward(self, x):
        h = x + self.linear(x).tanh()
        return {"tensor": h, "tuple": (h, [h]), "mapping": {"sample": h, "skips": None}}[self.kind]


class Network(nn.Module):
    """Three blocks; reentrant: None, or how each is checkpointed."""

    def __init__(self, reentrant: bool | None = None, kinds=("tensor", "tensor", "tensor")) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks, self.reentrant = nn.ModuleList(Block(kind) for kind in kinds), reentrant

    def forward(self, x):
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
            x = x if isinstance(x, torch.Tensor) else next(iter(x.values() if isinstance(x, dict) else x))
        return x


X = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))


def gradients(model: Network, *names: str) -> list[torch.Tensor]:
    """Return the gradients of what the network returns and of the loss of its tapped outputs, in one backward pass."""
    with tap(model, *names) as features:
        out = model(X.clone().requires_grad_())
        before = [features[name] for name in names]
        (out.square().mean() + sum(map(DispersiveLoss(), features.values()))).backward()
        assert [features[name] for name in names] == before  # not replaced by what is computed again
    return [parameter.grad for parameter in model.parameters()]


def test_outputs_are_those_of_the_blocks_with_their_gradients_and_nothing_is_left():
    model = Network()
    bare = {name: {**module.__dict__} for name, module in model.named_modules()}
    with tap(model, "blocks.1", "blocks.0.linear") as features:
        out = model(X)
        assert len(model.blocks[1]._forward_hooks) == 1
    assert list(features) == ["blocks.1", "blocks.0.linear"]
    assert torch.equal(features["blocks.1"], model.blocks[1](model.blocks[0](X)))
    assert torch.equal(features["blocks.0.linear"], model.blocks[0].linear(X))
    assert torch.equal(out, model.blocks[2](features["blocks.1"]))
    loss = DispersiveLoss()
    tapped = torch.autograd.grad(loss(features["blocks.1"]), model.blocks[0].linear.weight)
    written_out = torch.autograd.grad(loss(model.blocks[1](model.blocks[0](X))), model.blocks[0].linear.weight)
    assert torch.equal(tapped[0], written_out[0])
    assert {name: {**module.__dict__} for name, module in model.named_modules()} == bare
    with pytest.raises(ZeroDivisionError), tap(model, "blocks.1"):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in model.modules())


def test_the_latest_call_counts():
    model = Network()
    with tap(model, "blocks.0") as features:
        with pytest.raises(RuntimeError, match=r"blocks\.0 has not been called"):
            features["blocks.0"]
        model(X)
        model(2 * X)
    assert torch.equal(features["blocks.0"], model.blocks[0](2 * X))


@pytest.mark.parametrize("name", ["blocks.1", "blocks.1.linear"])
def test_checkpointing_changes_no_gradient(name):
    plain, checkpointed = gradients(Network(), name), gradients(Network(reentrant=False), name)
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))


def test_an_output_without_gradient_is_refused_where_one_is_wanted():
    with pytest.raises(RuntimeError, match=r"blocks\.1 was called without gradients.*use_reentrant=False"):
        gradients(Network(reentrant=True), "blocks.1")
    model = Network()
    with torch.no_grad(), tap(model, "blocks.1") as features:
        model(X)
        assert torch.equal(features["blocks.1"], model.blocks[1](model.blocks[0](X)))
    with pytest.raises(RuntimeError, match=r"torch\.no_grad"):
        features["blocks.1"]


def test_wrappers_are_looked_through():
    model = Network()
    for wrapped in (DataParallel(model), torch.compile(model, backend="eager"), torch.compile(DataParallel(model))):
        with tap(wrapped, "blocks.1") as features, torch.compiler.set_stance("force_eager"):
            wrapped(X)
        assert torch.equal(features["blocks.1"], model.blocks[1](model.blocks[0](X)))


def test_a_compiled_network_is_tapped_in_one_graph():
    model = Network()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with tap(compiled, "blocks.1") as features:
        for factor in (1, 2, 3):
            compiled(factor * X)
            torch.testing.assert_close(features["blocks.1"], model.blocks[1](model.blocks[0](factor * X)))
            assert features["blocks.1"].requires_grad


@pytest.mark.parametrize(
    ("kind", "choice", "match"),
    [
        ("tuple", None, r"blocks\.1 returns a tuple \(0: Tensor, 1: list\): choose a tensor of it by output="),
        ("tuple", 1, "choose a tensor"),
        ("tuple", 2, "choose a tensor"),
        ("mapping", None, r"blocks\.1 returns a dict \('sample': Tensor, 'skips': NoneType\)"),
        ("mapping", "skips", "choose a tensor"),
        ("tuple", 0, None),
        ("mapping", "sample", None),
    ],
)
def test_what_is_not_a_tensor_is_chosen_or_refused(kind, choice, match):
    model = Network(kinds=("tensor", kind, "tensor"))
    with tap(model, "blocks.0", "blocks.1", output=choice) as features:
        if match:
            with pytest.raises(TypeError, match=match):
                model(X)
        else:
            out = model(X)
            assert torch.equal(model.blocks[2](features["blocks.1"]), out)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("blocks.3",), r"no module 'blocks\.3' in Network: blocks has 0, 1, 2"),
        (("blocks.0", "blocks.1.norm.weight"), r"blocks\.1 has linear"),
        (("layers.0",), "it has blocks"),
        (("blocks.0.linear.weight",), r"blocks\.0\.linear has none"),
        ((), "Give their names"),
    ],
)
def test_a_module_that_is_not_there_is_refused_with_those_that_are(names, match):
    model = Network()
    for network in (model, DataParallel(model)):
        with pytest.raises(ValueError, match=match), tap(network, *names):
            pass
    assert not any(module._forward_hooks for module in model.modules())
