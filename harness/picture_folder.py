"""A folder of small pictures as a data set: what is in it, known by content alone. No torch here.

Classes are the folders in it, by name; without folders there is one class. Folders called train and test are the
splits, with classes in both; else a picture's own hash says which split it is in, so that a new one moves no other.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError, one_line
from harness.files import sha256_of
from harness.picture_files import class_folders, picture_files
from harness.pictures import channels, open_picture

SPLITS = ("train", "test")
OTHER_SPLITS = {"val", "validation", "valid", "dev"}
SHARE = 0.8  # of the pictures that are for training, where nobody says it
PREFIX = "folder-"  # of the names of such data sets; what follows is the identity of what is in them


class Item(NamedTuple):
    """One picture."""

    sha256: str  # of the file
    label: int
    split: str
    path: Path


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder, in an order that follows from their content."""

    items: tuple[Item, ...]
    classes: int

    @property
    def content(self) -> str:
        """The sha256 of what is in the pictures, of their classes and splits: neither names nor the place matter."""
        lines = (f"{item.sha256} {item.label} {item.split}\n" for item in self.items)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @cached_property
    def channels(self) -> int:
        """1 where all pictures are grey, else 3.

        Raises:
            UserError: a picture cannot be read.
        """
        return max(_channels(item.path) for item in self.items)


def data_name(content: str, size: int, channels: int) -> str:
    """Return the name of the data set that pictures of a content are at a size."""
    return f"{PREFIX}{hashlib.sha256(f'{content} {size} {channels}'.encode()).hexdigest()[:12]}"


def read_folder(folder: Path, share: float | None) -> PictureFolder:
    """Look at each picture of a folder. share: of the pictures that are for training, by their hashes.

    Raises:
        UserError: there is no such folder, it holds no pictures or no whole splits, or the splits are said twice.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a folder of pictures is expected")
    names, tops = picture_files(folder).names, class_folders(folder)
    if wrong := sorted(set(tops) & OTHER_SPLITS):
        raise UserError(f"{folder / wrong[0]}: splits are called train and test; rename it, or move it away")
    if not names:
        raise UserError(f"{folder}: no pictures in it")
    split = set(SPLITS) <= set(tops)
    if split and share is not None:
        raise UserError(f"{folder}: has the folders train and test, and a split is said as well; leave one of them out")
    if split and set(tops) != set(SPLITS):
        raise UserError(f"{folder}: folders beside train and test: {', '.join(sorted(set(tops) - set(SPLITS)))}")
    depth = 1 if split else 0
    owners = [name.split("/")[depth] if name.count("/") > depth else "" for name in names]
    numbers = {owner: number for number, owner in enumerate(sorted(set(owners)))}
    if "" in numbers and len(numbers) > 1:
        loose = names[owners.index("")]
        raise UserError(f"{folder / loose}: a picture beside the folders of classes; move it into one of them")
    items = [
        _item(folder / name, numbers[owner], name.split("/")[0] if split else "", share or SHARE)
        for name, owner in zip(names, owners, strict=True)
    ]
    found = PictureFolder(tuple(sorted(items)), len(numbers))
    for problem in _lacking(found, list(numbers)):
        raise UserError(f"{folder}: {problem}")
    return found


def _item(path: Path, label: int, split: str, share: float) -> Item:
    sha256 = sha256_of(path)
    return Item(sha256, label, split or SPLITS[int(sha256[:8], 16) >= share * 2**32], path)


def _lacking(pictures: PictureFolder, classes: list[str]) -> Iterator[str]:
    """Yield what the splits lack: a picture of each class to train on, and one to test on."""
    trained = {item.label for item in pictures.items if item.split == "train"}
    for label, name in enumerate(classes):
        if label not in trained:
            yield f"no picture {f'of class {name} ' if name else ''}to train on; add some, or say a larger split"
    if all(item.split == "train" for item in pictures.items):
        yield "no picture to test on; add some, or say a smaller split"


def _channels(path: Path) -> int:
    try:
        with open_picture(path) as image:
            return channels(image)
    except Exception as error:  # Pillow's readers fail in many ways
        raise UserError(f"{path}: cannot be read ({one_line(error)}); replace or remove it") from None
