"""`benchmarks/gpu.py`: its rehearsal passes, each part sees a fault, and what it writes survives what goes wrong."""

import json
import subprocess
import sys
import time

import pytest
import torch
from support.places import ROOT

COMMAND = [sys.executable, "benchmarks/gpu.py", "--tiny"]
PARTS = ("env", "correct", "syncs", "speed", "compiled", "ddp", "resume", "sampling", "measure", "loader", "profile")


@pytest.fixture
def benchmark(monkeypatch):
    """Return the module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    return gpu


@pytest.fixture
def record(benchmark):
    """Return the module of limits and of what is written."""
    from card import record

    return record


def rehearse(folder, *words):
    """Run it, and return the exit code and what it wrote."""
    code = subprocess.run([*COMMAND, "--out", folder, *words], cwd=ROOT, capture_output=True, timeout=900).returncode
    return code, json.loads((folder / "gpu.json").read_text("utf-8"))["parts"]


@pytest.mark.long
def test_the_rehearsal_passes(tmp_path):
    code, parts = rehearse(tmp_path)
    assert {name: part["problems"] for name, part in parts.items()} == {name: [] for name in PARTS}
    assert [v for part in parts.values() for v in part["verdicts"] if not v["kept"]] == []
    assert code == 0
    assert "no figure means anything" in (tmp_path / "gpu.md").read_text("utf-8")
    assert (tmp_path / "profile.txt").is_file()


@pytest.mark.long
def test_every_part_sees_a_fault_by_its_limits(tmp_path):
    code, parts = rehearse(tmp_path, "--fault", *PARTS)
    assert code == 1
    assert {name: part["passed"] for name, part in parts.items()} == dict.fromkeys(PARTS, False)
    assert {name: part["problems"] for name, part in parts.items()} == {
        name: [] for name in PARTS
    }  # seen by its limits


def run_parts(benchmark, record, folder, *parts):
    """Run made-up parts, half a second each at most; return which passed, and what was recorded."""
    card = benchmark.Card(torch.device("cpu"), True, folder, time.monotonic() + 60)
    limits = {"good": [record.Limit("a row", "x", at_most=1)], "bad": [record.Limit("*", "x", at_least=1)]}
    kept = record.Record(folder, {"rehearsal": True}, limits)
    return [benchmark.run(part, 0.4, card, kept) for part in parts], kept


def good(card):
    """Keep the limit."""
    yield "a row", {"x": 1.0}


def bad(card):
    """Give what is no number, and too little."""
    yield "one", {"x": float("nan")}
    yield "two", {"x": 0.5}


def dying(card):
    """Give a row, and fail."""
    yield "a row", {"x": 1.0}
    raise RuntimeError("CUDA error: an illegal\nmemory access")


def lacking(card):
    """Give a row that could not be measured, and one that could."""
    from card.record import attempt

    yield "too large", attempt(lambda: {"x": torch.zeros(1 << 62).sum()})
    yield "a row", {"x": 1.0}


def endless(card):
    """Give a row, and go on."""
    yield "a row", {"x": 1.0}
    while True:
        time.sleep(0.01)


def test_a_part_that_fails_or_takes_too_long_costs_no_other(benchmark, record, tmp_path):
    passed, kept = run_parts(benchmark, record, tmp_path, dying, lacking, endless, bad, good)
    assert passed == [False, False, False, False, True]
    assert [v.kept for v in kept.parts["bad"].verdicts] == [False, False]
    written = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["parts"]
    assert written["dying"]["problems"] == ["RuntimeError: CUDA error: an illegal memory access"]
    assert written["dying"]["rows"] == {"a row": {"x": 1.0}}
    assert list(written["lacking"]["rows"]) == ["too large", "a row"]
    assert written["lacking"]["problems"][0].startswith("too large: RuntimeError: ")
    assert written["endless"]["problems"][0].startswith("TooLongError: stopped after 1 s")


def test_what_is_killed_has_written_its_rows(benchmark, record, tmp_path):
    def killed(card):
        yield "a row", {"x": 1.0}
        written = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["parts"]["killed"]
        assert written["rows"] == {"a row": {"x": 1.0}}
        assert not written["passed"]
        yield "seen", {}

    _, kept = run_parts(benchmark, record, tmp_path, killed)
    assert list(kept.parts["killed"].rows) == ["a row", "seen"]


def test_a_limit_that_fits_no_row_is_not_kept(record):
    (verdict,) = record.verdicts({"a row": {"x": 1.0}}, [record.Limit("another", "x", at_most=1)])
    assert (verdict.kept, verdict.number) == (False, None)


def test_each_part_has_a_limit_in_the_rehearsal_too(benchmark):
    assert [part.__name__ for part, _ in benchmark.PARTS] == list(PARTS)
    for limits in (benchmark.read_limits(tiny=False), benchmark.read_limits(tiny=True)):
        assert all(limits[part] for part in PARTS)
    assert sum(seconds for _, seconds in benchmark.PARTS) <= 1.05 * benchmark.SECONDS
