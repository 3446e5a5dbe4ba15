"""LayerSync (arXiv 2510.12581): a block's tokens point where those of a deeper block do.

Both are of the pass that the denoising loss is taken of. The deeper block is a target: it learns from the denoising
loss alone.
"""

from torch import Tensor

from harness.method.terms import ConfiguredTerm, Sizes, StepView, misalignment


class LayerSync(ConfiguredTerm):
    """As long as every block is the identity, as adaLN-zero begins, the two are one and nothing pulls."""

    floor, flat_start = -1.0, True

    def build(self, sizes: Sizes) -> None:
        """Tap the deeper block too."""
        self.references = (self.settings.reference,)

    def forward(self, view: StepView) -> Tensor:
        """Minus the mean cosine similarity over channels of all tokens of all samples, in [−1, 1]."""
        (taught,), (reference,) = self.blocks, self.references
        return misalignment(view.h[taught], view.h[reference].detach())
