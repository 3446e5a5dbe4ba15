"""Settings that do not fit together are refused; words for blocks become their numbers."""

import pytest
from support.places import GRIDS

from harness.config.grid import load_table
from harness.config.resolve import SettingError, resolve_blocks
from harness.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=DiT-B/2", "sampler.method=heun"], "cannot be sampled by heun; legal: ancestral, ddim"),
        (["model=MF-B/2", "sampler.guidance=1.5"], "guidance in the training target"),
        (["model=MF-B/2", "sampler.guidance_to=2"], "meanflow.omega, kappa, start and end"),
        (["sampler.guidance=1.5", "sampler.guidance_from=2", "sampler.guidance_to=2"], "above 2 and up to 2"),
        (["model=Shortcut-B/2", "sampler.guidance=1.5"], "guidance in the training target"),
        (["model=Shortcut-B/2", "sampler.intervals=3"], "1, 2, 4, 8, 16, 32, 64 or 128 steps"),
        (["model=IMM-B/2", "batch=30"], "groups of 4"),
        (["model=IMM-B/2", "batch=12", "regularizer.group=6"], "groups of 4"),
        (["model=iCT-B/2"], "length of its curriculum"),
        (["model=iCT-B/2", "consistency.epochs=1", "consistency.finest=10000"], "8 steps are too few for a curriculum"),
        (["model=iCT-B/2", "consistency.epochs=80", "sampler.intervals=2"], "in 1 step"),
        (["model=iCT-B/2", "consistency.epochs=80", "sampler.guidance=1.5"], "without guidance"),
    ],
)
def test_what_a_family_cannot_do_is_refused(overrides, words):
    with pytest.raises(UserError, match=words):
        load_table(GRIDS / "table2.yaml", "digits", overrides)


@pytest.mark.parametrize(
    ("words", "depth", "numbers"),
    [
        ("3/12", 12, (3,)), ("3/12", 24, (6,)), ("3/12", 28, (7,)), ("3/12", 8, (2,)), ("1/12", 8, (1,)),
        ("last", 12, (12,)), ("all", 4, (1, 2, 3, 4)), (5, 12, (5,)), ((1, "last"), 12, (1, 12)),
    ],
)  # fmt: skip
def test_block_words(words, depth, numbers):
    assert resolve_blocks(words, depth) == numbers


@pytest.mark.parametrize("words", [13, "13/12", (1, 99)])
def test_impossible_blocks(words):
    with pytest.raises(SettingError, match="no block"):
        resolve_blocks(words, 12)
