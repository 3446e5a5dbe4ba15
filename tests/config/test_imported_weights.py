"""What is known of imported weights without their tensors."""

import pytest

from harness.config import imported_weights as imported
from harness.config.spec import Model
from harness.errors import UserError
from harness.files import write_json


def describe(folder, name, sha256):
    network = imported.Architecture(
        process="flow", model=Model(depth=2, width=16, heads=2, patch=2), channels=4, size=8, classes=10
    )
    model = imported.Imported(
        name=name, label="SiT-S/2", network=network, parts=("ema", "model"), remarks=(), sha256=sha256,
        origin=imported.Origin(file="a.pt", sha256="0" * 64),
    )  # fmt: skip
    write_json(imported.description_path(folder, name), model.model_dump(mode="json"))
    return model


def test_the_description_comes_back_and_says_what_is_in_the_file(tmp_path):
    model = describe(tmp_path, "given", "ab" * 32)
    assert imported.names(tmp_path) == ["given"]
    assert imported.describe(tmp_path, "given") == model
    assert model.contents == "ema and model, sha256 abababababab…"
    assert str(model.network) == "flow, 2 blocks of width 16 with 2 heads, patch 2, 4×8×8 in 10 classes"


def test_weights_are_found_by_identity_where_their_tensors_are(tmp_path):
    for name in ("first", "second"):
        describe(tmp_path, name, "ab" * 32)
    with pytest.raises(UserError, match=r"first\.safetensors is not here; import the file again"):
        imported.find(tmp_path, "ab" * 32)
    imported.tensors_path(tmp_path, "second").touch()
    model, path = imported.find(tmp_path, "ab" * 32)
    assert (model.name, path) == ("second", tmp_path / "second.safetensors")
    with pytest.raises(UserError, match="no weights cdcdcdcdcdcd… in"):
        imported.find(tmp_path, "cd" * 32)


def test_tensors_are_those_beside_a_description_wherever_it_says_that_they_are(tmp_path):
    (tmp_path / "outside.safetensors").touch()
    (tmp_path / "weights").mkdir()
    model = describe(tmp_path / "weights", "given", "ab" * 32)
    renamed = model.model_copy(update={"name": "../outside"})
    write_json(imported.description_path(tmp_path / "weights", "given"), renamed.model_dump(mode="json"))
    with pytest.raises(UserError, match=r"given\.safetensors is not here"):
        imported.find(tmp_path / "weights", "ab" * 32)
