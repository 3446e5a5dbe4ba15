"""A term that keeps the mean of the representations at a distance."""

from pydantic import Field

from harness.config.settings import Positive, TermSettings
from harness.method.terms import ConfiguredTerm


class Centred(ConfiguredTerm):
    """(‖z‖² − radius)², of each sample's mean square."""

    class Settings(TermSettings):
        """Its constant."""

        radius: Positive = Field(1.0, description="the mean square that is wanted")

    formula = r"\mathbb{E} (\|z\|^2 / D - r)^2"

    def forward(self, view):
        """The mean over samples."""
        z = view.h[self.blocks[0]].flatten(1)
        return (z.square().mean(1) - self.settings.radius).square().mean()
