"""Memory of a GPU that a training takes: its state in closed form, and what the forward pass keeps for the backward
pass, as torch keeps it; what fits on a card.

Tests count what torch keeps. What compiled steps keep, and MeanFlow's derivative, is not known here.
"""

from dataclasses import dataclass

from harness.config.resolve import SettingError, check_resources
from harness.config.settings.resources import Resources
from harness.config.spec import TrainSpec
from harness.planning.flops import long_residuals, parameters, soft_parameters, term_parameters, tokens

# Bytes that the forward pass keeps for each channel of each token: of a block, and of all else together.
BLOCK = {"bf16": 48.5, "fp32": 80.5}
REST = 17
JOIN = {"bf16": 12, "fp32": 16}  # of a long residual
INPUT = 4  # of a block that is computed again: its input alone
FLOAT = 4
CONTEXT = 2**30  # of CUDA and the libraries, in each process: our assumption
PAIRS = 16  # samples of the paper's groups, which no micro-batch tears apart
SHARE = 0.9  # of the free memory that is planned with: the allocator's gaps and short-lived tensors take the rest


def state_bytes(spec: TrainSpec) -> int:
    """Return the bytes of weights, average, gradients and both moments; under bf16 also of the weights' copies."""
    network, projector = parameters(spec), term_parameters(spec)
    if spec.soft_tokens:  # a frozen network alone, and what is trained before it
        soft = soft_parameters(spec)
        return FLOAT * (network + 4 * soft) + (2 * (network + soft) if spec.precision == "bf16" else 0)
    copies = 2 * (network + projector) if spec.precision == "bf16" else 0
    return FLOAT * (5 * network + 4 * projector) + copies


def kept_bytes(spec: TrainSpec, images: int, again: bool = False) -> float:
    """Return the bytes that a forward pass of some images keeps; again: blocks are computed again.

    A contrastive second view goes through the network up to its last block. A second phase sends each image through it
    under the class of each of its group; a frozen network keeps less for that than this.
    """
    images *= spec.soft_tokens.group if spec.soft_tokens else 1
    views = [spec.model.depth]
    if spec.regularizer and spec.regularizer.kind == "contrastive":
        views.append(max(spec.regularizer.blocks))
    block = BLOCK[spec.precision]
    blocks = sum(INPUT * depth for depth in views) + block if again else sum(block * depth for depth in views)
    joins = sum(JOIN[spec.precision] * max(0, depth - spec.model.depth + long_residuals(spec)) for depth in views)
    seen = tokens(spec) + (spec.soft_tokens.count if spec.soft_tokens else 0)
    return images * seen * spec.model.width * (blocks + joins + REST * len(views))


@dataclass(frozen=True)
class Fit:
    """How a training fits: so many samples in a pass, blocks computed again or not, and how many trainings at once."""

    micro_batch: int
    again: bool
    at_once: int

    def words(self, batch: int) -> str:
        """Say what to set."""
        micro = f"resources.micro_batch={self.micro_batch}" if self.micro_batch < batch else ""
        blocks = "resources.checkpoint_blocks=true" if self.again else ""
        needed = " ".join(filter(None, (micro, blocks)))
        several = f"--jobs {self.at_once} --set resources.jobs_per_gpu={self.at_once}"
        room = f", room for {self.at_once} at once ({several})" if self.at_once > 1 else ""
        return f"{f'with {needed}' if needed else 'whole batch'}{room}"


def fit(spec: TrainSpec, free: int, cores: int) -> Fit | None:
    """Return how a training of one process fits into so many free bytes: the largest micro-batch, then blocks computed
    again; None where nothing fits. Each of several at once needs a core."""
    budget, halves = SHARE * free, [spec.batch >> k for k in range(spec.batch.bit_length())]
    for again in (False, True):
        for micro_batch in (half for half in halves if half >= min(PAIRS, spec.batch)):
            needed = CONTEXT + state_bytes(spec) + kept_bytes(spec, micro_batch, again)
            if needed <= budget and _legal(spec, micro_batch, again):
                whole = (micro_batch, again) == (spec.batch, False)
                return Fit(micro_batch, again, min(cores, int(budget // needed)) if whole else 1)
    return None


def _legal(spec: TrainSpec, micro_batch: int, again: bool) -> bool:
    try:
        check_resources(spec, Resources(micro_batch=micro_batch, checkpoint_blocks=again))
    except SettingError:
        return False
    return True
