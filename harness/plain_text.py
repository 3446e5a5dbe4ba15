"""What text and names may hold that others wrote: they end up in job scripts, on terminals, in pages and in paths."""

import re
from pathlib import PurePath
from typing import Any

from harness.errors import UserError

# C0, DEL and C1 move a terminal's cursor and begin lines of shell; U+2028 and U+2029 end lines for some readers only;
# marks of direction show text in another order than it is read in; lone surrogates are bytes that are not UTF-8; of a
# byte order mark nothing is seen.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
# Nothing is seen of these either, but letters and pictures need some: Unicode's Default_Ignorable_Code_Point and the
# anchors of annotations, as inside of a class of `re`.
UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
NAME_RULE = "a name is at most 100 letters, digits, '.', '_' and '-', and begins with none of '.' and '-'"


def escape_controls(text: str, keep: str = "") -> str:
    r"""Return a text that a terminal shows and does not obey: every control character is written as JSON does, ESC as
    \u001b. Applied to JSON it leaves JSON of the same content. keep: characters to leave as they are."""
    return CONTROL.sub(lambda char: char[0] if char[0] in keep else _written_out(char[0]), text)


def _written_out(control: str) -> str:
    return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(control, f"\\u{ord(control):04x}")


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
