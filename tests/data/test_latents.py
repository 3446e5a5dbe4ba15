"""The folder of packed latents: what its meta.json and its arrays must be."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.raw_data import write_latents

from harness.data.latents import open_arrays, read_meta
from harness.errors import UserError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": None}, r"meta\.json: scale: Input should be a valid number; packed latents are moments\.npy"),
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
        open_arrays(tmp_path / "photos", "mean,logvar")
    (tmp_path / "photos" / "labels.npy").unlink()
    with pytest.raises(UserError, match=r"packed latents need moments\.npy"):
        open_arrays(tmp_path / "photos", "mean,logvar")


def test_a_data_set_is_named_and_never_a_path(tmp_path: Path) -> None:
    write_latents(tmp_path / "outside")
    with pytest.raises(UserError, match=r"data set \.\./outside: a name is .* did you mean 'outside'"):
        read_meta("../outside", tmp_path / "data")
