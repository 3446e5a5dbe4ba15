"""The second phase of a training: its network is frozen, and soft tokens before its first blocks are learned.

What the trained part goes on from is kept beside it as the weights of step 0, and each checkpoint names that file's
sha256: it holds the tokens, and where the rest of the network comes from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from harness.checkpoint_paths import state_path
from harness.config.spec import SoftTokenPhase
from harness.engine.train import Trainer
from harness.errors import UserError
from harness.method.backbone import DiT
from harness.method.soft_tokens import SoftTokens
from harness.networks import checkpoint


@dataclass
class NoAverage:
    """What stands for the moving average where there is none: the network itself."""

    net: DiT

    def update(self) -> None:
        """Follow nothing."""


class SecondPhaseTrainer(Trainer):
    """Trains the soft tokens of a spec, at their own rates; they are sampled as they are, without an average."""

    kept = ("soft_tokens",)

    @property
    def phase(self) -> SoftTokenPhase:
        """Its settings."""
        return cast(SoftTokenPhase, self.spec.soft_tokens)

    def _make_average(self) -> NoAverage:
        return NoAverage(self.net)

    def _make_stored(self) -> dict[str, torch.nn.Module]:
        return {"soft_tokens": cast(SoftTokens, self.net.soft_tokens)}

    def _make_optimizer(self) -> torch.optim.AdamW:
        tokens, rates = [p for p in self.net.parameters() if p.requires_grad], self.phase
        return torch.optim.AdamW(tokens, rates.learning_rate, weight_decay=rates.weight_decay, fused=True)

    def _begin(self, weights: Path, states: Path, step: int) -> None:
        """Freeze the first phase's network; of a training that goes on, the very one that it began with."""
        began = checkpoint.frozen_of(state_path(states, step)) if step else None
        tensors, self.frozen = checkpoint.load_frozen(weights, began)
        own = {f"soft_tokens.{name}": t for name, t in cast(SoftTokens, self.net.soft_tokens).state_dict().items()}
        self.net.load_state_dict(tensors | own)

    def step(self, step: int, look: bool = False) -> dict[str, Tensor]:
        """As of any training.

        Raises:
            UserError: the tokens have no gradient at the first step; in all processes.
        """
        losses = super().step(step, look)
        if step == 0 and not self.gradient_norm():
            raise UserError(
                "soft_tokens: its gradient is zero at the first step: no error depends on them; train the first phase "
                "for longer, or raise soft_tokens.temperature"
            )
        return losses
