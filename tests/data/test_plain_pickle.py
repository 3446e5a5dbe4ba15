"""A pickle gives plain values and arrays of bytes, and can do nothing else."""

import ctypes
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.raw_data import python2_pickle

from harness.data.plain_pickle import loads

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    scalars, lambda v: st.lists(v) | st.dictionaries(st.text() | st.integers(), v) | st.tuples(v, v), max_leaves=8
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(values, st.sampled_from([3, 4, 5]))
def test_plain_values_are_those_of_pythons_unpickler(value: object, protocol: int) -> None:
    assert loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_the_one_that_was_written(protocol: int, order: str) -> None:
    array = np.array(PIXELS, order=order)
    for content in (pickle.dumps({"data": array}, protocol), python2_pickle({"data": array})):
        np.testing.assert_array_equal(loads(content)["data"], PIXELS)


class Call:
    """Pickles as a call of anything with anything."""

    def __init__(self, target: object, *arguments: object, state: object = None) -> None:
        self.parts = (target, arguments) if state is None else (target, arguments, state)

    def __reduce__(self) -> tuple[object, ...]:
        return self.parts


RECONSTRUCT = PIXELS.__reduce__()[0]
WRONG = {
    "an array over the file's own memory": (Call(np.ndarray, (1,), "O", b"A" * 8), "no description of an array"),
    "an array of objects": (np.array([None], object), "other values than bytes"),
    "an array of numbers": (np.zeros(3), "other values than bytes"),
    "an array over fewer bytes": (
        Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (9,), np.dtype("u1"), False, b"123")),
        r"shape \(9,\) over",
    ),
    "a negative shape": (
        Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (-1, -3), np.dtype("u1"), False, b"123")),
        "without a shape",
    ),
    "a function": (Call(print, "x"), "it asks for builtins.print"),
    "a type": (Call(ctypes.c_char_p, b"x"), "it asks for ctypes.c_char_p"),
    "a set": ({1, 2}, "EMPTY_SET|ADDITEMS"),
    "a key that is a tuple": ({(1, 2): 3}, "a key is text or a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_everything_else_is_refused(what: str) -> None:
    value, words = WRONG[what]
    with pytest.raises(ValueError, match=words):
        loads(pickle.dumps(value, 4))


def test_a_large_number_of_a_memo_takes_no_memory() -> None:
    content = b"\x80\x02]" + b"r" + (2**31 - 1).to_bytes(4, "little") + b"."
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        f"from harness.data.plain_pickle import loads; print(loads({content!r}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_what_grows_twofold_and_what_is_torn_ends_quickly() -> None:
    start, doubled = time.process_time(), b"\x80\x02]q\x00"
    for _ in range(200):
        doubled += b"]q\x01(h\x00h\x00eq\x00"  # a list of the one before, twice
    assert isinstance(loads(doubled + b"."), list)
    for content in (b"", b"(", b"e.", b"\x80\x04\x95", b"h\x07.", b"\x8e" + b"\xff" * 8, b"q\x00."):
        with pytest.raises((ValueError, LookupError)):
            loads(content)
    assert time.process_time() - start < 5
