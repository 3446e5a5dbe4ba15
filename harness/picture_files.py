"""Which files of a folder are pictures: one rule for all that read folders.

Names that begin with a dot are nothing, at any depth. Links are followed. A file whose name ends as a format's do is a
picture, and refused where it turns out to be none; of any other name the content decides. The rest is counted.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError, user_error
from harness.pictures import FORMATS, SUFFIXES, open_picture
from harness.plain_text import escape_controls

CERTAIN = tuple(name for name in FORMATS if name != "TGA")  # what is known by its first bytes
NOWHERE = "{}: a link that leads to no file; mend it or remove it"
MOST_KINDS = 5  # that are listed of what is left out


@dataclass(frozen=True)
class PictureFiles:
    """The pictures below a folder."""

    folder: Path
    names: tuple[str, ...]  # below the folder, parted by "/"; folder by folder in the order of code points
    left_out: str  # how many other files there are, and their kinds; "" where there are none

    @property
    def paths(self) -> list[Path]:
        """Their places."""
        return [self.folder / name for name in self.names]


def picture_files(folder: Path) -> PictureFiles:
    """Return the pictures in a folder and its sub-folders. What is in a file is looked at only where its name is odd.

    Raises:
        UserError: a folder cannot be listed or is reached twice, or a link leads nowhere.
    """
    with user_error(f"{folder}: cannot be listed", kinds=OSError):
        names = sorted(_files(folder), key=lambda name: name.split("/"))
    pictures = tuple(name for name in names if _is_picture(folder / name))
    return PictureFiles(folder, pictures, left_out(set(names).difference(pictures)))


def left_out(names: Iterable[str]) -> str:
    """Return how many files these are, and of which kinds: "3 other files (2 .txt, 1 .db)"."""
    counts = Counter(escape_controls(Path(name).suffix.lower()) or "without suffix" for name in names)
    if not counts:
        return ""
    kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
    words = [f"{counts[kind]:,} {kind}" for kind in kinds[:MOST_KINDS]] + ["…"] * (len(kinds) > MOST_KINDS)
    total = counts.total()
    return f"{total:,} other file{'s' if total > 1 else ''} ({', '.join(words)})"


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder that may be classes, in the order of code points.

    Raises:
        UserError: the folder cannot be listed.
    """
    with user_error(f"{folder}: cannot be listed", kinds=OSError), os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def _files(folder: Path) -> Iterator[str]:
    """Every file that is not hidden, in no order."""
    pending, reached = [""], dict[tuple[int, int], str]()
    while pending:
        inside = pending.pop()
        _check_new(folder / inside, inside, reached)
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}{entry.name}"
                if entry.name.startswith("."):
                    continue
                with user_error(NOWHERE.format(folder / name), kinds=OSError):  # a link to itself
                    is_folder = entry.is_dir()
                if is_folder:
                    pending.append(f"{name}/")
                elif entry.is_symlink() and not entry.is_file():
                    raise UserError(NOWHERE.format(folder / name))
                else:
                    yield name


def _check_new(folder: Path, name: str, reached: dict[tuple[int, int], str]) -> None:
    """Refuse a folder that was reached before: links in a circle, or pictures that would count twice."""
    status = folder.stat()
    first = reached.setdefault((status.st_dev, status.st_ino), name)
    if first != name:
        raise UserError(f"{folder}: the same folder as '{first or '.'}', through a link: remove one of the two")


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with open_picture(path, CERTAIN):
            return True
    except Exception:  # Pillow's readers fail in many ways
        return False
