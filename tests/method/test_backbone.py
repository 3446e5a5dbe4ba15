"""The transformer against the public SiT implementation: weights by name, outputs, block outputs, guidance."""

import itertools

import pytest
import torch
from support.backbones import NULL, build, given, moved
from support.backbones import SIT as GOLDEN

from harness.method.backbone import DiT, kept
from harness.method.guidance import CountedNet, guided


@pytest.mark.parametrize("head", ["sit", "sit_ls"])
@torch.no_grad()
def test_outputs_and_blocks_of_the_public_code(head):
    x, t, y = (GOLDEN[f"{head}.{name}"] for name in "xty")
    out, h = given(head)(x, (t,), y, taps=(1, 2, 3))
    assert out.shape[1] == (8 if head == "sit_ls" else 4)
    torch.testing.assert_close(out[:, :4], GOLDEN[f"{head}.out"], rtol=1e-5, atol=1e-5)
    for number, tapped in enumerate(h, start=1):
        torch.testing.assert_close(tapped, GOLDEN[f"{head}.block{number}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", ["sit", "sit_ls"])
@torch.no_grad()
def test_three_channel_guidance_of_the_public_code(head):
    """The public function takes the doubled batch, labels and null labels, and returns both halves."""
    x, t, y, expected = (GOLDEN[f"{head}.{name}"] for name in ("cfg_x", "cfg_t", "cfg_y", "cfg3_out_scale1.7"))
    assert (y[3:] == NULL).all()
    net = guided(given(head), 1.7, "three", NULL)
    out, h = net(x[:3], (t[:3],), y[:3], (2,))
    torch.testing.assert_close(out[:, :4], expected[:3], rtol=1e-5, atol=1e-5)
    _, plain = given(head)(x[:3], (t[:3],), y[:3], (2,))
    torch.testing.assert_close(h[0], plain[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_guidance_extrapolates_the_channels_it_names_and_no_others():
    net = given("sit_ls")
    x, t, y = (GOLDEN[f"sit_ls.{name}"] for name in "xty")
    conditional, null = net(x, (t,), y)[0], net(x, (t,), torch.full_like(y, NULL))[0]
    for channels, k in (("three", 3), ("all", 4)):
        out, _ = guided(net, 2.5, channels, NULL)(x, (t,), y)
        torch.testing.assert_close(out[:, :k], (2.5 * conditional - 1.5 * null)[:, :k], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(out[:, k:], conditional[:, k:], rtol=1e-5, atol=1e-5)
    assert guided(net, 1, "three", NULL) is net
    with pytest.raises(AssertionError, match="three-channel"):
        guided(net, 2, "three", NULL)(x[:, :1], (t,), y)


def test_evaluations_are_counted_where_they_happen():
    counted = CountedNet(lambda x, times, y, taps=(): (x, []))
    x, t, y = torch.zeros(3, 4, 2, 2), torch.zeros(3), torch.zeros(3, dtype=torch.long)
    counted(x, (t,), y)
    assert counted.images == 3
    guided(counted, 1.5, "all", NULL)(x, (t,), y)
    assert counted.images == 3 + 6
    guided(counted, 1, "all", NULL)(x, (t,), y)
    assert counted.images == 3 + 6 + 3


@torch.no_grad()
def test_features_are_the_taps_of_forward_in_the_order_asked():
    net = given("sit")
    x, t, y = (GOLDEN[f"sit.{name}"] for name in "xty")
    for taps in itertools.permutations((1, 2)):
        for number, a, b in zip(taps, net(x, (t,), y, taps)[1], net.features(x, (t,), y, taps), strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a, GOLDEN[f"sit.block{number}"], rtol=1e-5, atol=1e-5)
    reached = []
    net.blocks[2].register_forward_hook(lambda *_: reached.append(2))
    net.features(x, (t,), y, (2,))
    assert not reached  # nothing beyond the last tap is computed
    assert net(x, (t,), y)[1] == []
    for impossible in (0, 4):
        with pytest.raises(AssertionError):
            net(x, (t,), y, (impossible,))


def test_initial_weights_are_a_function_of_the_seed_alone():
    a = build().initialise(3).state_dict()
    torch.manual_seed(99)
    torch.randn(7)
    net = build()
    drawn_by_construction = torch.get_rng_state()
    b = net.initialise(3).state_dict()
    assert torch.equal(torch.get_rng_state(), drawn_by_construction)
    assert all(torch.equal(a[name], b[name]) for name in a)
    c = net.initialise(4).state_dict()
    assert not torch.equal(a["blocks.0.attn.qkv.weight"], c["blocks.0.attn.qkv.weight"])


def test_initialisation_is_the_public_one():
    net = DiT(8, 2, 4, 256, 2, 4, num_classes=1000).initialise(0)
    state = net.state_dict()
    assert all(not state[name].any() for name in state if name.endswith("bias") or "adaLN" in name)
    assert not state["final_layer.linear.weight"].any()
    for name in ("t_embedder.mlp.0.weight", "t_embedder.mlp.2.weight", "y_embedder.embedding_table.weight"):
        assert state[name].std().item() == pytest.approx(0.02, rel=0.02)
    for name in ("blocks.1.attn.qkv.weight", "blocks.0.mlp.fc2.weight", "x_embedder.proj.weight"):
        weight = state[name].flatten(1)
        bound = (6 / sum(weight.shape)) ** 0.5  # xavier: uniform on ±√(6/(fan in + fan out))
        assert 0.97 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    x, t, y = torch.randn(2, 4, 8, 8), torch.rand(2), torch.tensor([0, 1000])
    out, (first, last) = net(x, (t,), y, (1, 2))
    assert not out.any()  # adaLN-zero: every block is the identity, the head says nothing
    assert torch.equal(first, last)


def test_positions_are_the_checkpoints_and_are_not_trained():
    net = build().initialise(0)
    torch.testing.assert_close(net.pos_embed.data, GOLDEN["sit.weights/pos_embed"], rtol=0, atol=1e-6)
    assert not net.pos_embed.requires_grad
    assert all(p.requires_grad for name, p in net.named_parameters() if name != "pos_embed")


def test_one_grey_channel_and_larger_patches():
    net = DiT(12, 4, 1, 32, 1, 2, num_classes=3).initialise(0)
    torch.nn.init.normal_(net.final_layer.linear.weight)
    x = torch.randn(2, 1, 12, 12)
    assert net(x, (torch.rand(2),), torch.tensor([0, 3]))[0].shape == x.shape


def test_dropout_leaves_out_the_share_that_it_says_by_the_sample_alone():
    """Independent between samples, blocks and places; what is left is as large in the mean."""
    keys, h = torch.tensor([7, 8, 7]), torch.ones(3, 40, 250)
    mask, other = kept(keys, 1, h, 0.25), kept(keys, 2, h, 0.25)
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(mask[0], mask[2])
    assert torch.equal(mask[1:2], kept(keys[1:2], 1, h[:1], 0.25))
    for drawn in (mask, other):
        assert float((drawn[0] == 0).float().mean()) == pytest.approx(0.25, abs=0.02)  # 4.6 standard errors
    pairs = (mask[0], mask[1]), (mask[0], other[0]), (mask[0, :, 1:], mask[0, :, :-1]), (mask[0, 1:], mask[0, :-1])
    for one, two in pairs:
        both = ((one == 0) & (two == 0)).float().mean()
        assert float(both) == pytest.approx(0.0625, abs=0.012)


def test_dropout_acts_while_dropping_alone_and_at_zero_never():
    x, t, y, keys = torch.randn(2, 1, 8, 8), torch.rand(2), torch.zeros(2, dtype=torch.long), torch.tensor([1, 2])
    for dropout in (0.0, 0.5):
        net = DiT(8, 4, 1, 16, 2, 2, 10, dropout=dropout)
        for weight in net.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.15)
        plain, _ = net(x, (t,), y)
        with net.dropping(keys):
            dropped, _ = net(x, (t,), y)
        assert torch.equal(plain, net(x, (t,), y)[0])
        assert torch.equal(plain, dropped) == (dropout == 0)


@pytest.mark.parametrize("depth", [4, 5])
def test_long_residuals_are_those_of_a_loop(depth):
    """DiverseDiT's equation for f_0, the tokens, f_1 …: block L − i is given Linear(LayerNorm(f_i ⊕ f_{L−i−1}))."""
    net = moved(DiT(8, 2, 4, 32, depth, 2, num_classes=10, long_residuals=True).initialise(3)).double()
    g = torch.Generator().manual_seed(1)
    x, t, y = torch.randn(3, 4, 8, 8, generator=g).double(), torch.rand(3, generator=g).double(), torch.arange(3)
    out, tapped = net(x, (t,), y, range(1, depth + 1))
    c = net.t_embedder(t) + net.y_embedder["embedding_table"](y)
    f = [net.x_embedder(x) + net.pos_embed]
    for number in range(1, depth + 1):
        joined, i = f[-1], depth - number
        if i <= depth // 2 - 1:
            both = torch.cat((f[i], f[-1]), -1)
            unit = (both - both.mean(-1, keepdim=True)) / (both.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
            weights = net.residuals[i].linear
            joined = unit @ weights.weight.T + weights.bias
        f.append(net.blocks[number - 1](joined, c))
        torch.testing.assert_close(tapped[number - 1], f[-1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(out, net._unpatchify(net.final_layer(f[-1], c)), rtol=1e-10, atol=1e-10)
    out.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in net.residuals.parameters())


def test_long_residuals_leave_all_other_weights_as_they_are():
    without, beside = (build(long_residuals=joined).initialise(3).state_dict() for joined in (False, True))
    assert {name.partition(".")[0] for name in beside.keys() - without.keys()} == {"residuals"}
    assert all(torch.equal(weight, beside[name]) for name, weight in without.items())
    assert not beside["residuals.0.linear.bias"].any()
    assert beside["residuals.0.linear.weight"].abs().max() <= (6 / (48 + 2 * 48)) ** 0.5
