"""Photos: cropped as ADM does, and read from every layout that people keep them in."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.photos import adm, pack, packed_arrays

from harness.data.photos import centre_crop, load_crops, open_photos
from harness.errors import UserError
from harness.plain_text import escape_controls

rng = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(300, 201), (64, 64), (129, 65), (70, 41), (20, 33), (512, 128)])
def test_the_crop_is_adms(shape):
    image = Image.fromarray(rng.integers(0, 256, (*shape[::-1], 3), np.uint8))
    np.testing.assert_array_equal(centre_crop(image, 32), adm(image, 32))
    grey = image.convert("L")
    np.testing.assert_array_equal(centre_crop(grey, 32), adm(grey.convert("RGB"), 32))


def test_a_batch_of_crops_is_contiguous(photos, tmp_path):
    crops = load_crops(open_photos(photos, tmp_path), 32, range(3))
    assert (crops.shape, crops.is_contiguous()) == ((3, 3, 32, 32), True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_photo_is_named_in_one_line_and_can_be_replaced(kl, photos, packed, tmp_path, workers):
    mine = shutil.copytree(photos, tmp_path / "mine")
    whole = (mine / "b" / "07.png").read_bytes()
    (mine / "b" / "07.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"^b/07\.png: cannot be read \(.*\); replace it") as raised:
        pack(mine, kl[0], tmp_path, workers=workers)
    assert "\n" not in str(raised.value)
    (mine / "b" / "07.png").write_bytes(whole)
    pack(mine, kl[0], tmp_path)
    assert packed_arrays(tmp_path / "photos") == packed_arrays(packed / "photos")


@pytest.mark.parametrize(("layout", "picture", "kind"), [("saved", "image", "label"), ("parquet", "picture", "kind")])
def test_hugging_face_data_sets_give_the_same_arrays(kl, photos, packed, tmp_path, layout, picture, kind):
    import datasets

    files = sorted(photos.rglob("*.png"))
    features = datasets.Features({picture: datasets.Image(), kind: datasets.ClassLabel(names=["a", "b", "c"])})
    pictures = [{"bytes": path.read_bytes(), "path": "/nowhere"} for path in files]
    rows = datasets.Dataset.from_dict({picture: pictures, kind: [p.parent.name for p in files]}, features=features)
    if layout == "saved":
        rows.save_to_disk(tmp_path / "hub")
    else:
        (tmp_path / "hub").mkdir()
        for i in range(2):
            rows.select(range(6 * i, 6 * i + 6)).to_parquet(tmp_path / "hub" / f"train-0000{i}-of-00002.parquet")
        rows.to_parquet(tmp_path / "hub" / "validation-00000-of-00001.parquet")
    pack(tmp_path / "hub", kl[0], tmp_path / "data", workers=1)
    for name in ("moments", "moments_flip", "labels", "images"):
        ours, same = (np.load(root / "photos" / f"{name}.npy") for root in (tmp_path / "data", packed))
        np.testing.assert_array_equal(ours, same)
    assert not (tmp_path / "data" / "photos" / ".arrow").exists()
    meta = json.loads((tmp_path / "data" / "photos" / "meta.json").read_text())
    assert meta["sha256"] == json.loads((packed / "photos" / "meta.json").read_text())["sha256"]


def as_file(image, mode):
    """Save a picture in another mode and open it again."""
    file = io.BytesIO()
    image.convert(mode).save(file, "TIFF" if mode == "CMYK" else "PNG")
    return Image.open(file)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK"])
def test_every_mode_is_cropped_as_its_rgb(mode):
    image = as_file(Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)), mode)
    np.testing.assert_array_equal(centre_crop(image, 32), adm(image.convert("RGB"), 32))


def test_a_narrow_photo_is_refused_before_it_is_stretched():
    with pytest.raises(ValueError, match=r"too narrow: 1×500,000 pixels become 32×16,000,000"):
        centre_crop(Image.new("L", (1, 500_000)), 32)


def one_class(folder, name, files=("a.png",)):
    for file in files:
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name / file)


def test_classes_are_the_visible_folders_in_the_order_of_code_points(tmp_path):
    names = ("B", "a", "caf\udce9", "linked", "é")
    for name in names[::-1]:
        one_class(tmp_path, name)
    one_class(tmp_path, ".ipynb_checkpoints")
    one_class(tmp_path, "a/deep/.hidden")
    one_class(tmp_path, "a/deep", ("b.webp",))
    (tmp_path / "a" / "notes.txt").write_text("no photo")
    photos = open_photos(tmp_path, tmp_path)
    assert photos.classes == tuple(map(escape_controls, sorted(names)))
    assert photos.names[:3] == ("B/a.png", "a/a.png", "a/deep/b.webp")
    assert photos.labels.tolist() == [0, 1, 1, 2, 3, 4]
    assert photos.left_out == "1 other file (1 .txt)"
    assert len(photos.listing()) == 64


def test_ordinary_folders_are_listed_as_torchvision_lists_them(photos, tmp_path):
    """Latents that were made with its listing are of the same photos."""
    from torchvision.datasets import ImageFolder

    theirs, ours = ImageFolder(str(photos)), open_photos(photos, tmp_path)
    assert list(ours.names) == [str(Path(path).relative_to(photos)) for path, _ in theirs.samples]
    assert (list(ours.classes), ours.labels.tolist()) == (theirs.classes, theirs.targets)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "empty").mkdir(), "empty: a class without pictures; add them, or remove the folder"),
        (lambda f: one_class(f, "x/.hidden"), "x: a class without pictures"),
        (lambda f: one_class(f, "", ("loose.png",)), "loose.png: a picture beside the folders of classes"),
        (lambda f: (f / "a" / "again").symlink_to(f), "the same folder as '.', through a link"),
    ],
)
def test_folders_that_would_shift_or_lose_a_class_are_refused(tmp_path, spoil, message):
    one_class(tmp_path, "a")
    spoil(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        open_photos(tmp_path, tmp_path)


def test_what_is_left_out_is_told_and_stored(kl, photos, packed, tmp_path):
    mine = shutil.copytree(photos, tmp_path / "mine")
    (mine / "a" / "notes.txt").write_text("no photo")
    assert pack(mine, kl[0], tmp_path).endswith("; left out: 1 other file (1 .txt)")
    meta, plain = (json.loads((root / "photos" / "meta.json").read_text()) for root in (tmp_path, packed))
    assert meta.pop("left_out") == "1 other file (1 .txt)"
    assert meta == plain


def test_a_row_that_names_a_file_is_refused(photos, tmp_path):
    import datasets

    (tmp_path / "hub").mkdir()
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a"]))
    rows = {"image": [{"bytes": None, "path": str(photos / "a" / "00.png")}], "label": ["a"]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "hub" / "train-0.parquet")
    with pytest.raises(UserError, match=r"hub: 1 rows of image name files, .*; write it with save_to_disk"):
        open_photos(tmp_path / "hub", tmp_path / "cache")


@pytest.mark.parametrize("files", [[{"filename": "../secret.arrow"}], [{"filename": "gone.arrow"}], [{}], 5, None])
def test_a_saved_data_set_reads_files_of_its_folder_alone(tmp_path, files):
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a"]})
    rows.save_to_disk(tmp_path / "hub")
    shutil.move(next((tmp_path / "hub").glob("*.arrow")), tmp_path / "secret.arrow")
    path = tmp_path / "hub" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_data_files": files}))
    with pytest.raises(UserError, match=r"hub/state\.json: .*; files of this folder are read"):
        open_photos(tmp_path / "hub", tmp_path / "cache")


def test_a_link_in_a_saved_data_set_that_leads_out_of_it_is_refused(tmp_path):
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a"]})
    rows.save_to_disk(tmp_path / "hub")
    for path in [*(tmp_path / "hub").glob("*.arrow"), tmp_path / "hub" / "dataset_info.json"]:
        path.rename(tmp_path / "secret")
        path.symlink_to(tmp_path / "secret")
        with pytest.raises(UserError, match=rf"^{path}: a link that leads out of this data set"):
            open_photos(tmp_path / "hub", tmp_path / "cache")
        path.unlink()
        (tmp_path / "secret").rename(path)
        (tmp_path / "hub" / "inside").unlink(missing_ok=True)
        (tmp_path / "hub" / "inside").symlink_to(path.name)
    with pytest.raises(UserError, match="one column of type Image is expected"):
        open_photos(tmp_path / "hub", tmp_path / "cache")


def test_a_torn_data_set_is_one_line(tmp_path):
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"not a data set that can be read: .*; fetch or save it again") as raised:
        open_photos(tmp_path, tmp_path / "cache")
    assert "\n" not in str(raised.value)


def test_layouts_that_would_mislead_are_refused(kl, photos, tmp_path):
    import datasets

    for split in ("imagenet/train", "imagenet/val", "capitals/Train", "capitals/Test"):
        shutil.copytree(photos, tmp_path / split)
    for name in ("train", "test", "masks"):
        shutil.copytree(photos / "a", tmp_path / "three" / name)
    rows = datasets.Dataset.from_dict({"text": ["a"]})
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "dictionary")
    for folder, words in {
        "imagenet": "splits, not classes: train, val; name the folder of one split",
        "capitals": "splits, not classes: Test, Train; name the folder of one split",
        "three": "splits, not classes: masks, test, train; name the folder of one split",
        "dictionary": "several splits of a data set; name the folder of one: test, train",
        "dictionary/train": "one column of type Image is expected, found 0 among text",
        "nowhere": "no such folder; photos are",
        "imagenet/train/a": "4 pictures and no folders of classes; photos are",
    }.items():
        with pytest.raises(UserError, match=re.escape(words)):
            pack(tmp_path / folder, kl[0], tmp_path / "data")
    with pytest.raises(UserError, match="NAME digits"):
        pack(photos, kl[0], tmp_path / "data", "digits")
    with pytest.raises(UserError, match="--size 33: its latents, 16 wide, decode to another"):
        pack(photos, kl[0], tmp_path / "data", size=33)
    assert not (tmp_path / "data").exists()
