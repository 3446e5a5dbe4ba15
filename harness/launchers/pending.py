"""Why a job waits in the queue: SLURM's reason in words, whether it can ever start as it is, and what helps then."""

import re
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.files import read_yaml


class Pending(BaseModel):
    """One reason. never: as it is the job never starts. held: until somebody releases it. mend: what helps then."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str
    words: str
    never: bool = False
    held: bool = False
    mend: str = ""


@cache
def reasons() -> tuple[Pending, ...]:
    """Return the reasons that are known, by the beginning of SLURM's word."""
    return tuple(Pending.model_validate(entry) for entry in read_yaml(Path(__file__).with_suffix(".yaml")))


def pending(reason: str) -> Pending:
    """Return what SLURM's reason means, with its own word; one that is not known is told as it is."""
    word = reason.replace(" ", "_") or "None"
    meant = next((known for known in reasons() if re.match(known.reason, word, re.IGNORECASE)), None)
    if meant is None:
        return Pending(reason=reason, words=reason, held="held" in reason.lower())
    return meant.model_copy(update={"reason": reason, "words": f"{meant.words} ({reason})"})
