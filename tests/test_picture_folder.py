"""A folder of pictures as a data set: known by content, its classes and splits."""

import shutil

import numpy as np
import pytest
from PIL import Image
from support.places import GRIDS

from harness.config.grid import load_table
from harness.config.plugin_parts import PluginRecord, folders
from harness.data.datasets import load_images
from harness.data.picture_arrays import convert_folder
from harness.errors import UserError
from harness.picture_folder import read_folder


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Return a folder of forty grey pictures of 8×10 in two classes, and stand beside it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "pics" / ("b" if number % 2 else "a") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 10), np.uint8)).save(path)
    return tmp_path / "pics"


def table_of(*words, record=None):
    settings = ["data.name=folder", "data.path=pics", "data.size=8", "data.channels=null", "data.classes=null", *words]
    return load_table(GRIDS / "table2.yaml", "smoke", settings, plugins=record)


def test_the_identity_follows_from_what_is_in_the_pictures_and_not_from_their_names(pictures):
    first = table_of()
    data = first.runs[0].train.data
    assert (data.channels, data.classes, data.size, data.flip) == (1, 2, 8, False)
    shutil.move(pictures / "a" / "0.png", pictures / "a" / "renamed.png")
    (pictures / "notes.txt").write_text("no picture")
    pictures.rename(pictures.with_name("moved"))
    moved = table_of("data.path=moved")
    assert [run.train_id for run in moved.runs] == [run.train_id for run in first.runs]
    image = Image.open(pictures.with_name("moved") / "a" / "2.png")
    image.putpixel((0, 0), 255 - image.getpixel((0, 0)))
    image.save(pictures.with_name("moved") / "a" / "2.png")
    assert table_of("data.path=moved").runs[0].train_id != first.runs[0].train_id
    assert table_of("data.path=moved", "data.split=0.5").runs[0].train.data.name != data.name
    # A stored study needs no pictures.
    stored = PluginRecord.model_validate_json(first.plugins.model_dump_json())
    assert table_of(record=stored).runs == first.runs
    with pytest.raises(UserError, match=r"--set data\.path=other: data\.path: the study has no run of these pictures"):
        table_of("data.path=other", record=stored)


def test_arrays_are_the_pictures_cut_to_squares_each_in_the_split_of_its_hash(pictures, tmp_path):
    table = table_of()
    ((name, written),) = folders(table.plugins)
    convert_folder(name, pictures, written.split, written.size, tmp_path / "data")
    splits = {split: load_images(name, split, tmp_path / "data") for split in ("train", "test")}
    everything = {}
    for path in pictures.rglob("*.png"):
        everything[np.asarray(Image.open(path))[:, 1:9].tobytes()] = "ab".index(path.parent.name)
    seen = {}
    for split in splits.values():
        seen |= {image.tobytes(): int(label) for image, label in zip(split.images, split.labels, strict=True)}
    assert seen == everything
    before = {item.sha256 for item in read_folder(pictures, None).items if item.split == "test"}
    assert len(splits["test"]) == len(before) > 0
    Image.new("L", (8, 8), 7).save(pictures / "a" / "new.png")
    assert before <= {item.sha256 for item in read_folder(pictures, None).items if item.split == "test"}


def test_folders_train_and_test_are_the_splits(pictures):
    for split in ("train", "test"):
        shutil.copytree(pictures, pictures.with_name("both") / split)
    both = read_folder(pictures.with_name("both"), None)
    assert (len(both.items), both.classes) == (80, 2)
    assert {item.split for item in both.items if "train" in item.path.parts} == {"train"}


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (lambda pics: None, ["data.path=none"], r"none: no such folder"),
        (lambda pics: None, ["data.path=null"], r"data\.path: this key is needed"),
        (lambda pics: None, ["data.split=1"], r"data\.split: .*less than 1"),
        (lambda pics: None, ["data.splt=0.5"], r"data\.splt: unknown key 'splt'; did you mean 'split'"),
        (lambda pics: None, ["data.channels=3"], r"data\.channels: 3, and the pictures in pics have 1"),
        (lambda pics: None, ["data.classes=10"], r"data\.classes: 10, and the pictures in pics have 2"),
        (lambda pics: None, ["data.split=0.001"], r"pics: no picture of class a to train on"),
        (lambda pics: shutil.rmtree(pics / "a") or shutil.rmtree(pics / "b"), [], r"pics: no pictures in it"),
        (lambda pics: (pics / "a/0.png").write_bytes(b"not"), [], r"pics/a/0\.png: cannot be read"),
        (lambda pics: shutil.move(pics / "a/0.png", pics / "0.png"), [], r"pics/0\.png: a picture beside the folders"),
        (lambda pics: (pics / "b").rename(pics / "val"), [], r"pics/val: splits are called train and test"),
    ],
)
def test_what_is_no_data_set_is_refused(pictures, change, words, message):
    change(pictures)
    with pytest.raises(UserError, match=message):
        table_of(*words)
