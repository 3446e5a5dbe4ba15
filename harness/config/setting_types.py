"""What a single setting may be (a number that is one, words for blocks, a list of seeds), and the model it is in."""

import itertools
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

BlockWord = int | str
BLOCK_WORDS = "legal: the number of a block from 1, k/n (that share of the depth), last"


class Frozen(BaseModel):
    """A model that cannot change and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def refuse_bool(value: Any) -> Any:
    """Refuse true and false where a number is expected: Python would read them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


def read_blocks(value: Any) -> BlockWord | tuple[BlockWord, ...]:
    """Read the tapped blocks: k, k/n, last, all, or a list of these.

    Raises:
        ValueError: anything else, and an empty list.
    """
    words = value if isinstance(value, list | tuple) else [value]
    if not words or not all(_is_block(word) for word in words):
        raise ValueError(f"{BLOCK_WORDS}, all, or a list")
    return tuple(words) if isinstance(value, list) else value


def read_block(value: Any) -> BlockWord:
    """Read one tapped block: k, k/n or last.

    Raises:
        ValueError: anything else.
    """
    if value == "all" or not _is_block(value):
        raise ValueError(BLOCK_WORDS)
    return value


def _is_block(word: Any) -> bool:
    if isinstance(word, str):
        return re.fullmatch(r"[1-9]\d*/[1-9]\d*|all|last", word) is not None
    return isinstance(word, int) and not isinstance(word, bool) and word >= 1


def read_seeds(value: Any) -> tuple[int, ...]:
    """Read one seed or a list of them.

    Raises:
        ValueError: an empty list, a seed said twice, or anything but whole numbers from 0.
    """
    seeds = tuple(value) if isinstance(value, list | tuple) else (value,)
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ValueError("different whole numbers are expected, for example [0, 1, 2]")
    return seeds


def in_order(lengths: dict[int, int]) -> dict[int, int]:
    """Pass lengths and their stand-ins on where a longer one has a longer stand-in.

    Raises:
        ValueError: two lengths would change places, or become one.
    """
    standing_in = [lengths[length] for length in sorted(lengths)]
    if any(later <= earlier for earlier, later in itertools.pairwise(standing_in)):
        raise ValueError("a longer training needs a longer stand-in")
    return lengths


Whole = Annotated[int, BeforeValidator(refuse_bool)]
Real = Annotated[float, BeforeValidator(refuse_bool), Field(allow_inf_nan=False)]
Share = Annotated[Real, Field(ge=0, lt=1)]
Positive = Annotated[Real, Field(gt=0)]
Count = Annotated[Whole, Field(ge=1)]
Blocks = Annotated[BlockWord | tuple[BlockWord, ...], BeforeValidator(read_blocks)]
OneBlock = Annotated[BlockWord, BeforeValidator(read_block)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(read_seeds)]
