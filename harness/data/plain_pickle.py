"""Pickles of plain values, read without building any object that the file describes.

Python's own unpickler calls what a file names, with the file's arguments, and NumPy's reconstruction trusts them: an
array of objects over the file's bytes is a pointer that the file chose. Here the operations are read one by one, and
all that they can make is dictionaries, lists, tuples, text, bytes, numbers, and arrays of bytes.
"""

import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

MARK = object()
NAMES = {  # which the pickles of NumPy 1 and 2 name; never looked up
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
}
BYTE = ("u1", "uint8", b"u1", b"uint8")


class Named(str):
    """A name that a pickle gives; not what it stands for."""


class Description:
    """A type of values, or an array without its values yet, as a pickle describes them."""

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind, self.arguments = kind, arguments
        self.array: np.ndarray | None = None

    def is_byte(self) -> bool:
        """Tell whether a type of values is that of bytes."""
        return bool(self.arguments) and isinstance(self.arguments[0], str | bytes) and self.arguments[0] in BYTE

    def build(self, state: Any) -> None:
        """Take the values of an array of bytes: (version, shape, type, Fortran order, bytes).

        Raises:
            ValueError: it is of anything but bytes, or its shape is not that of its values.
        """
        if self.kind == "dtype":
            return
        _, shape, dtype, fortran, raw = state
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("it describes an array without a shape")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 had one type for both
        if not isinstance(dtype, Description) or dtype.kind != "dtype" or not dtype.is_byte():
            raise ValueError("it describes an array of other values than bytes")
        if not isinstance(raw, bytes) or len(raw) != math.prod(shape):
            raise ValueError(f"it describes an array of shape {shape} over other values")
        self.array = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def loads(content: bytes) -> Any:
    """Return the plain value of a pickle; text of Python 2, which did not tell it from bytes, as text of Latin-1.

    Raises:
        ValueError: it is cut off, or asks for anything but plain values and arrays of bytes.
    """
    reader = _Reader()
    for operation, argument, _ in pickletools.genops(content):
        reader.do(operation.name, argument)
    return reader.plain(reader.stack.pop())


class _Reader:
    """The stack and the memo of a pickle that is being read."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        if name in LITERALS:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in OPERATIONS:
            OPERATIONS[name](self, argument)
        elif name not in NOTHING:
            raise ValueError(f"it has the operation {name}, which plain values have no use for")

    def since_mark(self) -> list[Any]:
        at = next((i for i in reversed(range(len(self.stack))) if self.stack[i] is MARK), None)
        if at is None:
            raise ValueError("it closes what it has not opened")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("it takes from an empty stack")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"it takes something else for a {kind.__name__}")
        return self.stack[-1]

    def tuple_of(self, items: list[Any]) -> None:
        self.stack.append(tuple(items))

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target, keys = self.top(dict), items[::2]
        if len(items) % 2 or not all(type(key) in (str, bytes, int) for key in keys):
            raise ValueError("a key is text or a whole number")
        target.update(zip(keys, map(self.plain, items[1::2]), strict=True))

    def remember(self, argument: Any) -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or f"{module} {name}" not in NAMES:
            wanted = f"{module:.50}.{name:.50}" if isinstance(module, str) and isinstance(name, str) else "no name"
            raise ValueError(f"it asks for {wanted}, which plain values have no use for")
        self.stack.append(Named(NAMES[f"{module} {name}"]))

    def call(self) -> None:
        named, arguments = self.take(2)
        if not isinstance(named, Named) or not isinstance(arguments, tuple) or named == "ndarray":
            raise ValueError("it calls what is no description of an array")
        self.stack.append(Description(named, arguments))

    def build(self) -> None:
        (state,) = self.take(1)
        self.top(Description).build(state)

    def plain(self, value: Any) -> Any:
        """Return an array in the place of its description."""
        if isinstance(value, Description) and value.array is not None:
            return value.array
        return value


LITERALS = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8",
)  # fmt: skip
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "MARK": lambda: MARK,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple,
}  # fmt: skip
OPERATIONS: dict[str, Callable[[_Reader, Any], object]] = {
    "TUPLE": lambda reader, _: reader.tuple_of(reader.since_mark()),
    "TUPLE1": lambda reader, _: reader.tuple_of(reader.take(1)),
    "TUPLE2": lambda reader, _: reader.tuple_of(reader.take(2)),
    "TUPLE3": lambda reader, _: reader.tuple_of(reader.take(3)),
    "LIST": lambda reader, _: reader.stack.append(reader.since_mark()),
    "APPEND": lambda reader, _: reader.append(reader.take(1)),
    "APPENDS": lambda reader, _: reader.append(reader.since_mark()),
    "SETITEM": lambda reader, _: reader.set_items(reader.take(2)),
    "SETITEMS": lambda reader, _: reader.set_items(reader.since_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), lambda reader, index: reader.remember(index)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda reader, index: reader.stack.append(reader.memo[index])),
    "GLOBAL": lambda reader, given: reader.name(*given.split(" ", 1)),
    "STACK_GLOBAL": lambda reader, _: reader.name(*reader.take(2)),
    "REDUCE": lambda reader, _: reader.call(),
    "BUILD": lambda reader, _: reader.build(),
}
NOTHING = ("PROTO", "FRAME", "STOP")
