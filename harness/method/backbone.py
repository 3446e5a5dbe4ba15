"""The DiT transformer (Peebles & Xie 2023), as SiT and MeanFlow use it too, with the public checkpoints' names.

Letters: N samples, C channels, H W pixels or latents, P patch size, T = HW/P² tokens, D width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from timm.layers import Attention, Mlp, PatchEmbed
from torch import Tensor, nn

from harness.method.processes.process import Tapped, Taps, Times
from harness.method.randomness import generator
from harness.method.soft_tokens import SoftTokens

FREQUENCIES = 128  # of a time


class DiT(nn.Module):
    """A pure function of its inputs: no label dropping, no guidance, no modes, no randomness.

    input_size: H = W. num_classes: labels 0 … num_classes − 1; index num_classes is the null label. learn_sigma: the
    head has 2C channels. dropout: probability that an element of what a block adds is left out, while `dropping` and
    never otherwise. second_time: MeanFlow's network, which is given two times, t and t − r, and adds up their
    embeddings. time_scale: times are multiplied by it before they are embedded. long_residuals: DiverseDiT's network,
    in which outputs of the first half's blocks are joined to inputs of the second half's (`LongResidual`). The weights
    are torch's defaults until `initialise` or a checkpoint sets them.
    """

    def __init__(
        self,
        input_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        num_classes: int,
        learn_sigma: bool = False,
        second_time: bool = False,
        time_scale: float = 1.0,
        dropout: float = 0.0,
        long_residuals: bool = False,
    ) -> None:
        super().__init__()
        self.dropout, self.keys = dropout, cast(Tensor | None, None)
        self.soft_tokens: SoftTokens | None = None  # of a second phase
        assert input_size % patch_size == 0, (input_size, patch_size)
        self.num_times = 2 if second_time else 1
        self.time_scale = time_scale
        self.out_channels = 2 * in_channels if learn_sigma else in_channels
        self.patch_size, self.grid_size = patch_size, input_size // patch_size
        self.x_embedder = PatchEmbed(input_size, patch_size, in_channels, hidden_size)
        self.t_embedder = TimeEmbedder(hidden_size)
        self.h_embedder = TimeEmbedder(hidden_size) if second_time else None
        # Named as in the public checkpoints; the last vector is the null label's.
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(num_classes + 1, hidden_size)})
        positions = sincos_positions(hidden_size, self.grid_size)
        self.pos_embed = nn.Parameter(positions[None], requires_grad=False)  # (1, T, D)
        self.blocks = nn.ModuleList(DiTBlock(hidden_size, num_heads) for _ in range(depth))
        joined = depth // 2 if long_residuals else 0
        self.residuals = nn.ModuleList(LongResidual(hidden_size) for _ in range(joined))  # i joins f_i to block L − i
        self.final_layer = FinalLayer(hidden_size, patch_size**2 * self.out_channels)

    def forward(self, x: Tensor, times: Times, y: Tensor, taps: Taps = ()) -> Tapped:
        """x (N, C, H, W), times one or two of (N,), y (N,) → the head's raw output (N, C or 2C, H, W), [h (N, T, D) …].

        taps: numbers of the blocks whose outputs to return, in that order; 1 is the first block, depth the last.
        """
        c, (h, tapped) = self._run_blocks(x, times, y, taps, len(self.blocks))
        return self._unpatchify(self.final_layer(h, c)), tapped

    def features(self, x: Tensor, times: Times, y: Tensor, taps: Taps) -> list[Tensor]:
        """The tapped block outputs of `forward`, computed up to the last of them only: [h (N, T, D) …]."""
        return self._run_blocks(x, times, y, taps, max(taps))[1][1]

    @contextmanager
    def dropping(self, keys: Tensor | None) -> Iterator[None]:
        """Leave out elements of what blocks add, which ones by a key of each sample (N,); None leaves out nothing."""
        self.keys = keys if self.dropout else None
        try:
            yield
        finally:
            self.keys = None

    def times(self, t: Tensor) -> Times:
        """A process's times (N,) or (N, K) as the network is given them: one or two of (N,)."""
        return t.view(len(t), -1).unbind(1)[: self.num_times]

    def _run_blocks(self, x: Tensor, times: Times, y: Tensor, taps: Taps, last: int) -> tuple[Tensor, Tapped]:
        """(conditioning, (tokens after block `last`, tapped outputs))."""
        assert all(1 <= tap <= len(self.blocks) for tap in taps), (taps, len(self.blocks))
        h = self.x_embedder(x) + self.pos_embed  # (N, T, D)
        c = self.t_embedder(self.time_scale * times[0])  # (N, D)
        if self.h_embedder is not None:
            c = c + self.h_embedder(self.time_scale * times[1])
        c = c + self.y_embedder["embedding_table"](y)
        outputs, waiting = {}, list[Tensor]()  # f_0, the tokens, f_1 … which the second half has not been given yet
        joined, soft = len(self.residuals), self.soft_tokens
        prompts, absent = (soft(times[0], y), soft.absent(y)) if soft is not None else ((), None)
        for number, block in enumerate(self.blocks[:last], start=1):
            if number <= joined:
                waiting.append(h)
            elif number > len(self.blocks) - joined:
                h = self.residuals[len(self.blocks) - number](waiting.pop(), h)
            if soft is not None and number <= len(prompts):
                out = soft.lead(block, prompts[number - 1], h, c, absent)
            else:
                out = block(h, c)  # (N, T, D)
            h = out if self.keys is None else h + (out - h) * kept(self.keys, number, h, self.dropout)
            if number in taps:
                outputs[number] = h
        return c, (h, [outputs[tap] for tap in taps])

    def _unpatchify(self, x: Tensor) -> Tensor:
        """(N, T, P·P·C) → (N, C, H, W)."""
        g, p = self.grid_size, self.patch_size
        x = x.reshape(-1, g, g, p, p, self.out_channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.out_channels, g * p, g * p)

    def initialise(self, seed: int) -> "DiT":
        """Draw all weights as the public DiT does, on the CPU: the same for the same seed, whatever ran before.

        Linear layers and patch embedding xavier-uniform with zero bias, embeddings normal(0.02), and all adaLN
        modulations and the head zero: every block starts as the identity (adaLN-zero). Long residuals are drawn from a
        stream of their own, so that the rest is as without. Returns the network itself.
        """
        shared, own = generator(seed, "weights", 0), generator(seed, "long residuals", 0)
        for name, weight in self.named_parameters():
            g = own if name.startswith("residuals.") else shared
            if name.endswith("bias") or "adaLN_modulation" in name or name == "final_layer.linear.weight":
                nn.init.zeros_(weight)
            elif name.startswith(("t_embedder", "h_embedder", "y_embedder")):
                nn.init.normal_(weight, std=0.02, generator=g)
            elif name != "pos_embed" and not name.startswith("soft_tokens"):
                nn.init.xavier_uniform_(weight.detach().flatten(1), generator=g)
        return self


def kept(keys: Tensor, number: int, h: Tensor, dropout: float) -> Tensor:
    """(N, T, D) of 0 and 1/(1 − dropout): a function of a sample's key (N,), a block's number and the place in it.

    So a sample loses the same elements in whatever process, micro-batch or attempt. The hash is MurmurHash3's end.
    """
    places = torch.arange(h[0].numel(), device=h.device) + number * h[0].numel() + 1
    x = (keys[:, None] + places * 0x9E3779B1) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    return ((x >= round(dropout * 2**32)) / (1 - dropout)).view_as(h).to(h.dtype)


class DiTBlock(nn.Module):
    """A transformer block whose norms are modulated by the conditioning (adaLN-zero)."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(hidden_size, num_heads=num_heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        gelu = cast(type[nn.Module], partial(nn.GELU, approximate="tanh"))
        self.mlp = Mlp(hidden_size, 4 * hidden_size, act_layer=gelu)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(N, T, D), (N, D) → (N, T, D)."""
        modulation = self.adaLN_modulation(c)[:, None]  # (N, 1, 6 D)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, dim=-1)
        x = x + gate_attn * self.attn(self.norm1(x) * (1 + scale_attn) + shift_attn)
        return x + gate_mlp * self.mlp(self.norm2(x) * (1 + scale_mlp) + shift_mlp)


class LongResidual(nn.Module):
    """Linear(LayerNorm(f_i ⊕ f_{l−1})), 2D → D: an early output joined to a block's input (DiverseDiT, 2603.04239).

    The norm has no scale of its own, which the linear layer has: as all norms here (our reading).
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, early: Tensor, h: Tensor) -> Tensor:
        """Two of (N, T, D) → (N, T, D), in the precision of h."""
        return self.linear(self.norm(torch.cat((early, h), dim=-1))).to(h.dtype)


class FinalLayer(nn.Module):
    """Modulated norm and the linear head."""

    def __init__(self, hidden_size: int, out_features: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden_size, out_features)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(N, T, D), (N, D) → (N, T, P·P·C)."""
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, dim=-1)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


class TimeEmbedder(nn.Module):
    """A scalar time as sines and cosines of `FREQUENCIES` from 1 down to 1/10,000, then an MLP."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        into, out = nn.Linear(2 * FREQUENCIES, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.mlp = nn.Sequential(into, nn.SiLU(), out)

    def forward(self, t: Tensor) -> Tensor:
        """(N,) → (N, D)."""
        steps = torch.arange(FREQUENCIES, dtype=torch.float32, device=t.device) / FREQUENCIES
        angles = t[:, None] * torch.exp(-math.log(10_000) * steps)
        return self.mlp(torch.cat((angles.cos(), angles.sin()), dim=-1))


def sincos_positions(width: int, grid_size: int) -> Tensor:
    """Fixed 2-D positions, (grid_size², D): a quarter each sin(column), cos(column), sin(row), cos(row)."""
    assert width % 4 == 0, width
    omega = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(grid_size, dtype=torch.float64)[:, None] * omega
    along = torch.cat((angles.sin(), angles.cos()), dim=-1)  # (grid_size, D/2)
    columns, rows = along[None].expand(grid_size, -1, -1), along[:, None].expand(-1, grid_size, -1)
    return torch.cat((columns, rows), dim=-1).flatten(0, 1).float()
