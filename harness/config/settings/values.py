"""What a single setting may be: a number, a name, a block of the network; and what all models of settings share."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from harness.plain_text import NAME_RULE, check_text, is_name

LARGEST = 2**53
DAYS = re.compile(
    r"(?P<days>\d{1,5})-(?P<hours>[01]?\d|2[0-3])(:(?P<minutes>[0-5]?\d)(:(?P<seconds>[0-5]?\d))?)?", re.ASCII
)
SECONDS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
CLOCK = re.compile(r"(?P<hours>\d{1,6}):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d)", re.ASCII)
BLOCK_WORDS = "legal: the number of a block from 1, k/n (that share of the depth), last"
WARM_UP = "the paper's epochs over which its weight grows linearly from 0; by default it is whole at once"


def read_number(value: Any) -> Any:
    """Refuse true and false where a number is expected, which Python would read as 1 and 0, and text: "1_000".

    Raises:
        ValueError: one of these, and a number of more than 16 digits, beyond which floats skip whole numbers.
    """
    if isinstance(value, bool | str):
        raise ValueError("a number is expected")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"a number up to {LARGEST:,} is expected")
    return value


def read_flag(value: Any) -> Any:
    """Refuse anything but true and false: pydantic takes yes and on as well, and 1.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def read_hours(value: Any) -> Any:
    """Read a number of hours, or a time as SLURM writes it: D-HH:MM:SS, HH:MM:SS, and D-HH and D-HH:MM.

    Raises:
        ValueError: any other text. MM:SS of SLURM's is one, for people read it as hours and minutes.
    """
    if not isinstance(value, str):
        return read_number(value)
    match = DAYS.fullmatch(value) or CLOCK.fullmatch(value)
    if not match:
        raise ValueError("hours are a number, or a time as D-HH:MM:SS or HH:MM:SS")
    parts = {unit: int(part or 0) for unit, part in match.groupdict().items()}
    return sum(parts.get(unit, 0) * seconds for unit, seconds in SECONDS.items()) / 3600


def read_name(value: str) -> str:
    """Refuse what is no name, such as a path.

    Raises:
        ValueError: the rule of names.
    """
    if not is_name(value):
        raise ValueError(f"{NAME_RULE}, and never a path")
    return value


def read_blocks(value: Any) -> Any:
    """Read the tapped blocks: k, k/n, last, all, or a list of these.

    Raises:
        ValueError: anything else, and an empty list.
    """
    words = value if isinstance(value, list | tuple) else [value]
    if not words or not all(map(_is_block, words)):
        raise ValueError(f"{BLOCK_WORDS}, all, or a list")
    return tuple(words) if isinstance(value, list) else value


def read_block(value: Any) -> Any:
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
        ValueError: an empty list, a seed said twice, or anything but whole numbers from 0 to 2**53.
    """
    seeds = tuple(value) if isinstance(value, list | tuple) else (value,)
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= LARGEST for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ValueError("different whole numbers are expected, for example [0, 1, 2]")
    return seeds


def in_order(lengths: dict[int, int]) -> dict[int, int]:
    """Pass lengths and their stand-ins on where a longer one has a longer stand-in.

    Raises:
        ValueError: two lengths would change places, or become one.
    """
    standing_in = [lengths[length] for length in sorted(lengths)]
    if standing_in != sorted(set(standing_in)):
        raise ValueError("a longer training needs a longer stand-in")
    return lengths


Whole = Annotated[int, BeforeValidator(read_number)]
Count = Annotated[Whole, Field(ge=1)]
Real = Annotated[float, BeforeValidator(read_number), Field(allow_inf_nan=False)]
Positive = Annotated[Real, Field(gt=0)]
Share = Annotated[Real, Field(ge=0, lt=1)]
Flag = Annotated[bool, BeforeValidator(read_flag)]
Hours = Annotated[float, BeforeValidator(read_hours), Field(gt=0, le=1_000_000)]
Name = Annotated[str, AfterValidator(read_name)]
Line = Annotated[str, AfterValidator(check_text)]
Prose = Annotated[str, AfterValidator(lambda text: " ".join(text.split()))]
BlockWord = int | str
Blocks = Annotated[BlockWord | tuple[BlockWord, ...], BeforeValidator(read_blocks)]
OneBlock = Annotated[BlockWord, BeforeValidator(read_block)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(read_seeds)]
StandIns = Annotated[dict[Count, Count], AfterValidator(in_order)]
Precision = Literal["fp32", "bf16"]


class Frozen(BaseModel):
    """A model that cannot change and refuses keys it does not know; where text is meant, 0.10 is "0.10"."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, defer_build=True, coerce_numbers_to_str=True
    )
