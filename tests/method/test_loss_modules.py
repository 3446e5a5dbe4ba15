"""The losses as modules: against double loops in float64 whatever shape comes in, the official value, and refusals."""

import math
from itertools import product

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.places import GOLDEN, GRIDS
from torch import Tensor

from harness import ContrastiveLoss, DispersiveLoss
from harness.config.settings.loss_settings import constants_of
from harness.method.loss_modules import PRESETS
from harness.method.losses import TABLE_1

VARIANTS = [
    ("infonce-l2", {"tau": 0.7}),
    ("infonce-cosine", {"tau": 0.3}),
    ("hinge", {"epsilon": 1.4}),
    ("covariance", {"normalization": "centered"}),
]
SHAPES = [(6, 3, 4), (6, 3, 2, 2), (6, 5), (6,)]  # tokens, pictures, vectors, numbers
each = pytest.mark.parametrize(("variant", "constants"), VARIANTS, ids=[name for name, _ in VARIANTS])


def loop(variant: str, constants: dict, z: Tensor) -> Tensor:
    """Return E_ij of Table 1's dispersive column, or E_mn, one pair after the other, in float64."""
    rows = [row.flatten() for row in z.double()]
    n, d = len(rows), rows[0].numel()
    if variant == "covariance":
        means = [sum(row[m] for row in rows) / n for m in range(d)]
        pairs = product(range(d), repeat=2)
        covariances = [sum((row[m] - means[m]) * (row[k] - means[k]) for row in rows) / n for m, k in pairs]
        return sum(c**2 for c in covariances) / d**2
    total = 0
    for a, b in product(rows, repeat=2):
        square = sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / d
        if variant == "infonce-l2":
            total = total + torch.exp(-square / constants["tau"])
        elif variant == "infonce-cosine":
            total = total + torch.exp((a @ b) / (a @ a).sqrt() / (b @ b).sqrt() / constants["tau"])
        else:
            distance = 0.0 if a is b else square.sqrt()
            total = total + max(constants["epsilon"] - distance, 0.0 * square) ** 2
    return total / n**2 if variant == "hinge" else torch.log(total / n**2)


def gradient(loss, z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.detach().clone().requires_grad_()
    value = loss(z)
    return value.detach().double(), torch.autograd.grad(value, z)[0].double()


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_shape_is_the_double_loop_and_its_gradient(variant, constants, dtype):
    for shape in SHAPES:
        z = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        exact, slope = gradient(lambda z: loop(variant, constants, z), z.double())
        with torch.autocast("cpu", torch.bfloat16):
            value, computed = gradient(DispersiveLoss(variant, **constants), z)
        assert value.item() == pytest.approx(exact.item(), rel=1e-6, abs=1e-6)
        rounding = 2e-6 if dtype == torch.float32 else 2**-8  # the gradient is of the features' own type
        assert (computed - slope).norm() <= rounding * slope.norm() + 1e-8


@each
def test_groups_weights_and_two_views(variant, constants):
    """Two views, both the same, attract with nothing and repel as in Table 1's contrastive column."""
    z = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    halves = (loop(variant, constants, z[:3]) + loop(variant, constants, z[3:])) / 2
    torch.testing.assert_close(DispersiveLoss(variant, group=3, weight=0.25, **constants)(z), halves / 4)
    other = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value, swapped = (ContrastiveLoss(variant, **constants)(z, view) for view in (other, other.roll(1, 0)))
    assert value < swapped  # what belongs together attracts


def test_the_contrastive_loss_is_a_cross_entropy_over_the_second_views():
    z1, z2 = torch.randn(2, 6, 3, 2, generator=torch.Generator().manual_seed(0))
    logits = -(torch.cdist(z1.flatten(1), z2.flatten(1)) ** 2) / 6 / 0.5
    expected = 0.5 * torch.nn.functional.cross_entropy(logits, torch.arange(6))
    torch.testing.assert_close(ContrastiveLoss.preset("paper", group=6)(z1, z2), expected)


@pytest.mark.parametrize(("block", "key"), [("sit.block3", ""), ("sit.block1", "_block1")])
def test_the_release_has_its_own_value(block, key):
    golden = load_file(GOLDEN / "disp_given.safetensors")
    loss = DispersiveLoss.preset("official-pytorch", group=None)
    expected = 0.25 * golden[f"sit.disp_infonce_l2_tau1{key}"][0]
    torch.testing.assert_close(loss(golden[block]), expected, rtol=1e-5, atol=0)


def test_presets_and_constants_are_those_of_the_grids():
    for name, preset in PRESETS.items():
        regularizer = yaml.safe_load((GRIDS / "presets" / f"{name}.yaml").read_text())["regularizer"]
        assert preset == {
            "weight": regularizer["lambda"], "tau": regularizer["tau"], "group": regularizer["group"],
        }  # fmt: skip
    for variant in TABLE_1:
        assert DispersiveLoss.constants_of(variant) == constants_of(variant, "dispersive")
        assert ContrastiveLoss.constants_of(variant) == constants_of(variant, "contrastive")


def test_compiled_inside_a_step_it_has_the_same_bits():
    model, loss = torch.nn.Linear(4, 4), DispersiveLoss.preset("paper", group=3)
    x = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0))

    def step(x: Tensor) -> Tensor:
        return 2 * loss(model(x).relu())

    compiled = torch.compile(step, backend="aot_eager")
    for scale in (1, 2):
        values = [f(scale * x) for f in (step, compiled)]
        assert values[0] == values[1]
        assert torch.equal(*(torch.autograd.grad(value, model.weight)[0] for value in values))


def test_it_adds_nothing_to_a_checkpoint_and_prints_what_it_is():
    loss = ContrastiveLoss("covariance", group=4)
    assert loss.state_dict() == {}
    settings = "normalization='standardized', offdiagonal=1.0, group=4, gather=False, weight=1.0"
    assert repr(loss) == f"ContrastiveLoss('covariance', {settings})"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DispersiveLoss("l2"), "variant: one of infonce-l2, infonce-cosine, hinge, covariance is expected"),
        (lambda: DispersiveLoss("hinge", tau=0.5), "hinge has no tau: its constants are epsilon"),
        (lambda: DispersiveLoss("covariance", offdiagonal=2.0), "covariance has no offdiagonal"),
        (lambda: DispersiveLoss(tau=0), "tau: a positive finite number is expected, found 0"),
        (lambda: DispersiveLoss("hinge", epsilon=math.nan), "epsilon: a positive finite number"),
        (lambda: DispersiveLoss("covariance", normalization="none"), "standardized or centered is expected"),
        (lambda: DispersiveLoss(group=1), "group: two samples or more are expected"),
        (lambda: DispersiveLoss.preset("release"), "one of paper, official-pytorch is expected, found 'release'"),
        (lambda: DispersiveLoss()(torch.zeros(1, 3)), "a group needs two samples, for the loss compares them"),
        (lambda: DispersiveLoss.preset("paper")(torch.zeros(8, 3)), "a batch of 8 cannot be cut into groups of 16"),
        (lambda: ContrastiveLoss()(torch.zeros(4, 3), torch.zeros(4, 2)), "two views of one shape"),
    ],
)
def test_a_mistake_is_refused_with_what_is_legal(make, match):
    with pytest.raises(ValueError, match=match):
        make()
