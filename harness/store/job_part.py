"""Which part of a training's work a job does: all of it, or one of the parts that are shared out one after the other.

With `resources.sample_shards` of 3 a training is five jobs: train, sample-1-of-3 … sample-3-of-3, measure-of-3. Each
begins when all before it are done, and finds what they made in the training's folders; shards wait for no shard.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

NUMBER = "([1-9][0-9]{0,3})"
PATTERN = f"^(?:(whole|train)|sample-{NUMBER}-of-{NUMBER}|measure-of-{NUMBER})$"


@dataclass(frozen=True)
class JobPart:
    """A part by its kind. shard: which of `shards`, counted from 1; 0 in what draws none of them alone."""

    kind: Literal["whole", "train", "sample", "measure"] = "whole"
    shard: int = 0
    shards: int = 0

    @property
    def name(self) -> str:
        """Its name in files: "train", "sample-2-of-3", "measure-of-3"."""
        numbers = "".join(f"-{n}" for n in [self.shard] if n) + (f"-of-{self.shards}" if self.shards else "")
        return f"{self.kind}{numbers}"

    @property
    def words(self) -> str:
        """Its name to a reader; "" for the whole."""
        shard = f"shard {self.shard} of {self.shards}"
        return {"whole": "", "train": "training", "sample": shard, "measure": "measuring"}[self.kind]

    @property
    def stage(self) -> int:
        """What begins after all of a lower stage have ended well."""
        return {"whole": 0, "train": 0, "sample": 1, "measure": 2}[self.kind]

    @classmethod
    def named(cls, name: str) -> "JobPart":
        """Return the part of a name.

        Raises:
            ValueError: it is none.
        """
        match = re.fullmatch(PATTERN, name)
        if not match:
            raise ValueError(f"{name} is no part of a training's work")
        plain, shard, of, measured = match.groups()
        if shard:
            return cls("sample", int(shard), int(of))
        return cls("measure", 0, int(measured)) if measured else cls("train" if plain == "train" else "whole")


WHOLE = JobPart()


def division(shards: int) -> list[JobPart]:
    """Return the parts of a training whose images are drawn in so many shards, in their order."""
    return [
        JobPart("train"),
        *(JobPart("sample", shard, shards) for shard in range(1, shards + 1)),
        JobPart("measure", 0, shards),
    ]


def current_division(names: Iterable[str]) -> list[JobPart]:
    """Return the parts of the division that the first of some names tells of; none where it is the whole, or none.

    The training has one name in every division.
    """
    parts = (JobPart.named(name) for name in names)
    return next((division(part.shards) if part.shards else [] for part in parts if part.kind != "train"), [])
