"""The folder of packed latents: what its meta.json and its arrays must be."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.raw_data import seeded, write_latents

from harness.data.datasets import load
from harness.data.latents import open_arrays, read_meta
from harness.errors import UserError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": None}, r"meta\.json: scale: Input should be a valid number; packed latents are moments\.npy"),
        ({"scale": float("inf")}, r"meta\.json: scale: Input should be a finite number"),
        ({"moments": "mean,variance"}, r"meta\.json: moments: Input should be 'mean,logvar', 'mean,std' or 'mean'"),
        ({"autoencoder": {"kind": "TAE"}}, r"meta\.json: autoencoder\.sha256: Field required"),
    ],
)
def test_a_wrong_description_is_told_by_its_key(tmp_path: Path, change: dict, message: str) -> None:
    write_latents(tmp_path / "photos")
    path = tmp_path / "photos" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_meta("photos", tmp_path)


def test_a_description_that_is_missing_or_no_json_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"photos lacks moments\.npy .* and meta\.json .*; make them with"):
        read_meta("photos", tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "meta.json").write_text("{")
    with pytest.raises(UserError, match=r"meta\.json: Invalid JSON: .*; packed latents are"):
        read_meta("photos", tmp_path)


@pytest.mark.parametrize(
    ("name", "shape"), [("labels", (5,)), ("moments_flip", (6, 8, 2, 1)), ("moments", (6, 7, 2, 2))]
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    write_latents(tmp_path / "photos")
    np.save(tmp_path / "photos" / f"{name}.npy", np.zeros(shape))
    with pytest.raises(UserError, match=r"arrays of shapes .*; packed latents are moments\.npy"):
        open_arrays(tmp_path / "photos", "mean,logvar", 3)
    (tmp_path / "photos" / "labels.npy").unlink()
    with pytest.raises(UserError, match=r"packed latents need moments\.npy"):
        open_arrays(tmp_path / "photos", "mean,logvar", 3)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("moments", np.zeros((6, 8, 2, 2), complex), "moments are complex128; float16 or float32"),
        ("moments", np.zeros((6, 8, 2, 2), np.int8), "moments are int8"),
        ("moments_flip", np.zeros((6, 8, 2, 2), ">f4"), "moments are >f4"),
        ("moments", np.full((6, 8, 2, 2), None), "packed latents need"),
        ("labels", np.arange(6) % 3 + 0.5, r"labels\.npy: labels are float64; whole numbers from 0 to 2"),
        ("labels", np.arange(6), r"labels\.npy: label 3 among them; classes are 0 to 2"),
        ("labels", -np.arange(6), r"labels\.npy: label -1 among them"),
    ],
)
def test_arrays_of_other_values_are_refused(tmp_path: Path, name: str, values: np.ndarray, words: str) -> None:
    write_latents(tmp_path / "photos")
    np.save(tmp_path / "photos" / f"{name}.npy", values)
    with pytest.raises(UserError, match=words):
        load("photos", "train", tmp_path, flip=True)


def test_a_latent_that_is_not_finite_is_refused_when_it_is_drawn(tmp_path: Path) -> None:
    write_latents(tmp_path / "photos")
    moments = np.load(tmp_path / "photos" / "moments.npy")
    moments[4, 1, 0, 0] = np.nan
    np.save(tmp_path / "photos" / "moments.npy", moments)
    dataset = load("photos", "train", tmp_path)
    dataset.batch(np.array([0, 3]), dataset.draw(2, seeded()))
    with pytest.raises(UserError, match=r"photos: latents: 1 of 32 values .* \(the first is nan\); .* of item 4"):
        dataset.batch(np.array([0, 4]), dataset.draw(2, seeded()))


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", "/etc", ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    write_latents(tmp_path / "outside")
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"a name is at most 100 .*, and never a path"):
        read_meta(name, tmp_path / "data")
