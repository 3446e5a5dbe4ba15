"""What people write of a run, by what it is of; plug-ins take what they need from here."""

from harness.config.settings.term_settings import TermSettings, TermWork
from harness.config.settings.values import (
    Blocks,
    Count,
    Flag,
    Frozen,
    Name,
    OneBlock,
    Positive,
    Real,
    Share,
    Whole,
)

__all__ = [
    "Blocks", "Count", "Flag", "Frozen", "Name", "OneBlock", "Positive", "Real", "Share", "TermSettings", "TermWork",
    "Whole",
]  # fmt: skip
