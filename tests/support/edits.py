"""A text in a file is replaced, and its line told."""

from pathlib import Path


def edit(path: Path, old: str, new: str) -> int:
    """Replace a text once and return the line where it stood."""
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1
