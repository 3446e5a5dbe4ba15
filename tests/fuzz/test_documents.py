"""Grids, scales, profiles and --set: planned as they say, or refused with the line."""

import math
import operator
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st
from support.fuzzing import command, mutated, spliced
from support.places import GRIDS, ROOT

from harness.config.grid import load_table
from harness.errors import UserError

pytestmark = pytest.mark.fuzz

TABLES = ("table2", "table3", "table4", "table5", "table6", "table7a", "convergence", "guidance")

# YAML 1.2's core schema, as the specification gives it (section 10.3.2).
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# SLURM's HH:MM:SS, D-HH, D-HH:MM and D-HH:MM:SS; its MM:SS could be hours and minutes, and is refused.
DURATION = re.compile(r"(?:(\d+)-(\d+)(?::(\d+)(?::(\d+))?)?)|(\d+):(\d+):(\d+)")


def text_of(content: Any) -> bytes:
    return yaml.dump(content, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))  # no SLURM, which would be asked for each input
    shutil.copytree(GRIDS, tmp_path / "grids")
    shutil.copytree(ROOT / "clusters", tmp_path / "clusters")
    return tmp_path


def documents(paths: list[Path]) -> st.SearchStrategy[bytes]:
    """Return the bytes of documents mutated as text or as trees."""
    texts = [path.read_bytes() for path in paths]
    trees = [yaml.safe_load(text) for text in texts]
    as_text = st.sampled_from(texts).flatmap(spliced)
    return as_text | st.sampled_from(trees).flatmap(mutated).map(text_of)


def test_a_grid_is_planned_and_submitted_or_refused(folder: Path, explore: Any) -> None:
    def check(text: bytes) -> None:
        (folder / "grids/mutated.yaml").write_bytes(text)
        planned = command(folder, "plan", "grids/mutated.yaml", "--scale", "smoke")
        sent = command(folder, "submit", "grids/mutated.yaml", "--scale", "smoke", "--dry-run")
        assert planned.code <= sent.code, f"planned, and then refused: {sent.text}" if planned.code else ""

    explore(check, documents([GRIDS / f"{name}.yaml" for name in TABLES]), 60)


def test_a_scale_is_taken_or_refused(folder: Path, explore: Any) -> None:
    def check(text: bytes) -> None:
        (folder / "grids/scales/mutated.yaml").write_bytes(text)
        command(folder, "plan", "grids/table2.yaml", "--scale", "mutated")

    explore(check, documents(sorted(GRIDS.glob("scales/*.yaml"))), 60)


def test_a_profile_writes_options_and_no_lines_of_its_own(folder: Path, explore: Any) -> None:
    profiles = sorted((ROOT / "clusters").glob("*.yaml"))

    def check(text: bytes) -> None:
        (folder / "clusters/mutated.yaml").write_bytes(text)
        words = ("submit", "grids/table3.yaml", "--scale", "smoke", "--profile", "mutated", "--dry-run")
        command(folder, *words)

    explore(check, documents(profiles), 60)


def core_schema(text: str) -> float | None:
    """Return the number that YAML 1.2 reads, None where it reads no number."""
    text = text.removeprefix("!!int ")
    if INTEGER.fullmatch(text):
        return float(int(text, 0) if text.startswith("0") and text[1:2] in ("o", "x") else int(text))
    if FLOAT.fullmatch(text):
        return float(text)
    return None


def hours_of(text: str) -> float | None:
    match = DURATION.fullmatch(text)
    if match is None:
        return core_schema(text)
    days, *rest = match.groups()
    hours, minutes, seconds = (int(part or 0) for part in (rest[:3] if days else rest[3:]))
    days = int(days or 0)
    return days * 24 + hours + minutes / 60 + seconds / 3600


numbers = (
    st.from_regex(r"[-+]?[0-9_]{1,6}(\.[0-9_]{0,3})?([eE][-+]?[0-9]{1,2})?", fullmatch=True)
    | st.from_regex(r"([0-9]-)?[0-9]{1,3}:[0-9]{1,2}(:[0-9]{1,2})?", fullmatch=True)
    | st.from_regex(r"0[box]?[0-7]{1,4}", fullmatch=True)
    | st.sampled_from((".5", "1.", "+1", "1e3", "1E3", "1e-4", "~", "yes", "on", "true", ".inf", "-.inf", ".nan", "''"))
    | st.sampled_from(
        ("2026-01-01", "1,000", "1 000", "½", "１２", "0b11", "1_0", "1:30", "01", "[1]", "{a: 1}", "!!int 3")
    )
)
SETTINGS = {
    "optimizer.learning_rate": ("train.optimizer.learning_rate", core_schema),
    "resources.hours": ("resources.hours", hours_of),
    "sampler.guidance": ("evaluation.sampler.guidance", core_schema),
    "ema": ("train.ema", core_schema),
    "batch": ("train.batch", core_schema),
}


def test_a_number_after_set_is_the_number_that_yaml_1_2_reads(explore: Any) -> None:
    def check(pair: tuple[str, str]) -> None:
        key, text = pair
        place, truth = SETTINGS[key]
        try:
            run = load_table(GRIDS / "table2.yaml", "smoke", [f"{key}={text}"]).runs[0]
        except UserError:
            return
        value, expected = operator.attrgetter(place)(run), truth(text)
        assert expected is not None, f"--set {key}={text} became {value!r}"
        assert math.isclose(value, expected), f"--set {key}={text} became {value!r}"

    explore(check, st.tuples(st.sampled_from(sorted(SETTINGS)), numbers), 200)
