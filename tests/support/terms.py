"""Terms of the loss that the package does not have, of the kinds that rival methods bring."""

import torch
import torch.nn.functional as F
from torch import nn

from harness.method.randomness import generator
from harness.method.terms import Term


class BlockAlignedWithALaterOne(Term):
    """As LayerSync: a block points where a later one does, in the same pass."""

    def __init__(self):
        super().__init__("layersync", (1, 3), 0.2)

    def forward(self, view):
        h, reference = (view.h[block] for block in self.blocks)
        return -F.cosine_similarity(h, reference.detach(), dim=-1).mean()


class AlignedWithTheAverage(Term):
    """As SRA: a block, through a head, points where a later block of the averaged network does, at less noise."""

    def __init__(self, width=48):
        super().__init__("self-alignment", (1,), 0.5)
        self.head = nn.Linear(width, width)

    def draw(self, draws, process, seed):
        return {"less noise": 0.2 * torch.rand(len(draws.t), generator=generator(seed, "less noise", draws.step))}

    def forward(self, view):
        t = (view.draws.t + view.draws.own[self.name]["less noise"]).clamp(max=1)
        with torch.no_grad():
            (target,) = view.outputs(view.average, t, view.draws.noise, (3,))
        return -F.cosine_similarity(self.head(view.h[1]), target, dim=-1).mean()


class AlignedWithTheImages(Term):
    """As SRA 2: a block, through a head, gives the clean images or latents."""

    def __init__(self, width=48, channels=4):
        super().__init__("reconstruction", (2,), 1.0)
        self.head = nn.Linear(width, channels * 4)

    def forward(self, view):
        patches = F.unfold(view.x, 2, stride=2).transpose(1, 2)  # (N, T, 4C)
        return F.smooth_l1_loss(self.head(view.h[2]), patches, beta=0.05)


class Adversarial(Term):
    """As SARA's third level: a critic learns to tell tokens from noise, and the block to be taken for it.

    Both in one sum: the block is judged by a copy of the critic that does not learn, the critic by detached tokens.
    """

    def __init__(self, width=48, tokens=16):
        super().__init__("adversary", (2,), 0.1)
        self.critic, self.tokens = nn.Linear(width, 1), tokens
        self.rates = {"lr": 2e-4, "betas": (0.5, 0.999)}

    def draw(self, draws, process, seed):
        shape = (len(draws.t), self.tokens, self.critic.in_features)
        return {"real": torch.randn(shape, generator=generator(seed, "real tokens", draws.step))}

    def forward(self, view):
        fixed = {name: p.detach() for name, p in self.critic.named_parameters()}
        fooled = torch.func.functional_call(self.critic, fixed, (view.h[2],))
        fake, real = self.critic(view.h[2].detach()), self.critic(view.draws.own[self.name]["real"])
        return F.softplus(-fooled).mean() + F.softplus(fake).mean() + F.softplus(-real).mean()
