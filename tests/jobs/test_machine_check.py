"""What is said of a machine, by what torch and the system say of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.jobs import machine_check
from harness.jobs.machine_check import Gpu, Machine, compile_header, compute, examine, examine_devices, examine_disk

GIB = 2**30
RTX = Gpu("NVIDIA GeForce RTX 4090", 22 * GIB, 24 * GIB, bf16=True)
T4 = Gpu("Tesla T4", 14 * GIB, 16 * GIB, bf16=False)
COMPILER = {"compiler": "gcc", "headers": Path(machine_check.sysconfig.get_path("include"))}
SOUND = Machine("2.11.0, built for CUDA 13.0", (RTX,), **COMPILER, trial=lambda: "right, in 2.0 s")


def found(machine, gpus=0):
    """What is found, by subject: (mark, message)."""
    marks = {f.subject: ("✓" if f.well else "✗" if f.wrong else "–", f.message) for f in examine_devices(machine, gpus)}
    assert all("\n" not in message and message for _, message in marks.values())
    return marks


def test_a_sound_machine_is_found_well():
    marks = found(SOUND, gpus=1)
    assert {mark for mark, _ in marks.values()} == {"✓"}
    assert marks["GPU 0"][1] == "NVIDIA GeForce RTX 4090, 22.0 of 24.0 GiB free"
    assert marks["bf16 product, and NCCL with one process"][1] == "right, in 2.0 s"


def crash():
    raise UserError("NCCL error: unhandled system error; look at the driver")


@pytest.mark.parametrize(
    ("changes", "gpus", "subject", "mark", "words"),
    [
        ({"torch": None, "problem": "No module named 'torch'"}, 0, "torch", "✗", "pip install"),
        ({"gpus": ()}, 0, "GPUs", "–", "compute on the CPU"),
        ({"gpus": ()}, 1, "GPUs", "✗", "none, 1 asked for: take a scale with resources.gpus: 0"),
        ({"gpus": (), "problem": "the driver is too old"}, 0, "GPUs", "✗", "the driver is too old"),
        ({}, 4, "GPUs", "✗", "1 seen, 4 asked for"),
        ({"gpus": (T4,)}, 1, "bf16", "✗", "Tesla T4 computes none; say --set precision=fp32"),
        ({"compiler": None}, 1, "compiler, for resources.compile", "✗", "Debian: gcc, python3-dev"),
        ({"headers": Path("/nowhere")}, 1, "compiler, for resources.compile", "✗", "no sound /nowhere/Python.h"),
        ({"compiler": "/nowhere/gcc"}, 1, "compiler, for resources.compile", "✗", "leave resources.compile out"),
        ({"trial": crash}, 1, "bf16 product, and NCCL with one process", "✗", "look at the driver"),
    ],
)
def test_each_fault_is_told_in_one_line_with_what_to_do(changes, gpus, subject, mark, words):
    healthy = {**vars(SOUND), "headers": SOUND.headers}
    marks = found(Machine(**healthy | changes), gpus)
    assert marks[subject][0] == mark
    assert words in marks[subject][1]
    assert {name for name, (other, _) in marks.items() if other == "✗"} <= {subject}


def test_without_a_gpu_it_is_said_once():
    assert list(found(Machine("2.11.0, built for no GPU"))) == ["torch", "GPUs"]


def test_this_machine_is_examined_without_a_word_of_python(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    assert found(machine_check.this_machine())["torch"][0] == "✗"


def test_a_product_and_a_sum_of_one_process_are_right():
    assert compute("gloo", "cpu").startswith("right, in ")


def test_a_process_that_dies_on_the_gpu_is_a_finding(monkeypatch):
    dead = subprocess.CompletedProcess([], -6, "", "first\nterminate called: CUDA error\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: dead)
    finding = examine("trial", machine_check.in_a_process)
    assert finding.wrong
    assert finding.message.startswith("terminate called: CUDA error; look at the driver")


def test_a_full_disk_is_seen(tmp_path):
    assert examine_disk("--scratch", tmp_path).well
    finding = examine_disk("--scratch", tmp_path, 1e18)
    assert finding.wrong
    assert "1,000,000,000 GB needed; make room" in finding.message


def test_a_compiler_reads_the_header():
    assert compile_header(COMPILER["compiler"], COMPILER["headers"]).startswith("gcc reads ")
