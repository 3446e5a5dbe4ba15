"""What text and names may hold that others wrote: they end up in job scripts, on terminals, in pages and in paths."""

import re
from pathlib import PurePath
from typing import Any

from harness.errors import UserError

# C0, DEL and C1 move a terminal's cursor and begin lines of shell; U+2028 and U+2029 end lines for some readers only;
# marks of direction show text in another order than it is read in; lone surrogates are bytes that are not UTF-8.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
NAME_RULE = "a name is at most 100 letters, digits, '.', '_' and '-', and begins with none of '.' and '-'"


def escape_controls(text: str, keep: str = "") -> str:
    r"""Return text with every control character written out, such as \x1b; keep: characters to leave as they are."""
    return CONTROL.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def printable(text: str, keep: str = "\n\t") -> str:
    r"""Return a text that a terminal shows and does not obey: other characters than these are written as JSON does,
    ESC as \u001b. Applied to JSON it leaves JSON of the same content."""
    return CONTROL.sub(lambda char: char[0] if char[0] in keep else f"\\u{ord(char[0]):04x}", text)


def check_text(text: str, keep: str = "") -> str:
    r"""Return text without control characters as it is; keep: those of them that are legal, such as "\n\t".

    Raises:
        ValueError: there is another one; it is named, and shown written out.
    """
    for match in CONTROL.finditer(text):
        if match[0] not in keep:
            raise ValueError(f"text may not hold the control character {escape_controls(match[0])}")
    return text


def is_name(name: str) -> bool:
    """Tell whether a table, study, scale, preset, profile, data set or model may be called so: `NAME_RULE`."""
    return NAME.fullmatch(name) is not None


def check_name(words: str, name: str) -> None:
    """Refuse what is no name, such as a path; words: the option or key that wants one.

    Raises:
        UserError: the rule, and the name that a path may have meant.
    """
    if not is_name(name):
        stem = PurePath(name).stem
        near = f"; did you mean '{stem}'?" if is_name(stem) else ""
        raise UserError(f"{words} {cut(escape_controls(name))}: {NAME_RULE}, and never a path{near}")


def cut(text: str, length: int = 120) -> str:
    """Return text with its end left out where it is longer than `length` characters."""
    return text if len(text) <= length else f"{text[:length]}…"


def shown(value: Any) -> str:
    """Return a value as a message shows it: in one line without control characters, and not long."""
    return cut(escape_controls(repr(value)))
