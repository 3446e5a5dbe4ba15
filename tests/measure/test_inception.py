"""Inception as we arrange it is torch-fidelity's, and its file is known by its content."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.measure.evaluate import MeasureRequest, measure
from harness.measure.extractors import inception
from harness.measure.extractors.extractor import Extractor, array_features, extractor
from harness.measure.extractors.inception import Inception, get_inception, load_inception, resize
from harness.measure.images import of_array

rng = np.random.default_rng(0)


class Trap:
    """Touches a file when somebody unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_unknown_features_and_missing_weights(data: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="features 'vgg' are unknown; legal: classifier, inception-v3-compat"):
        extractor("vgg", "digits", data, cache)
    with pytest.raises(UserError, match=r"no weights at .*run: harness data get inception-v3-compat"):
        extractor("inception-v3-compat", "digits", data, cache)
    torch.save({"one": torch.zeros(1), "code": Trap(tmp_path / "owned")}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="is not torch-fidelity's weights file: ") as raised:
        extractor("inception-v3-compat", "digits", data, cache, tmp_path / "bad.pth")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "owned").exists()
    images = of_array(np.zeros((4, 3, 8, 8), np.uint8), "samples")
    with pytest.raises(UserError, match=r"imagenet256: not one of digits, .*harness encode PHOTOS imagenet256"):
        measure(images, MeasureRequest("imagenet256:train", "classifier", data, cache))


@pytest.fixture
def inception_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights in the layout of the published file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path / "weights.pth"
    torch.save({}, path)
    with monkeypatch.context() as patched:
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=str(path))
    torch.save(network.state_dict(), path)
    return path


def test_inception_takes_grey_images_and_is_named_by_its_trunk(
    data: Path, cache: Path, inception_weights: Path
) -> None:
    extract = extractor("inception-v3-compat", "digits", data, cache, inception_weights)
    grey = rng.integers(0, 256, (2, 1, 8, 8), np.uint8)
    features = array_features(grey, extract).pool
    assert features.shape == (2, 2048)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, array_features(np.repeat(grey, 3, axis=1), extract).pool)
    weights = torch.load(inception_weights)
    weights["fc.weight"].zero_()
    torch.save(weights, inception_weights)
    assert extractor("inception-v3-compat", "digits", data, cache, inception_weights).id == extract.id
    weights["Conv2d_1a_3x3.conv.weight"][0] += 1e-3
    torch.save(weights, inception_weights)
    assert extractor("inception-v3-compat", "digits", data, cache, inception_weights).id != extract.id


def test_the_copy_of_inception_that_is_there_is_recognised(
    inception_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = inception_weights.rename(tmp_path / "inception-v3-compat.pth")
    weights = torch.load(path)
    torch.save(weights | {name: torch.zeros_like(weights[name]) for name in ("fc.weight", "fc.bias")}, path)
    with pytest.raises(
        UserError, match=r"neither the published file \(sha256 .*expected 6726825d.*nor a known"
    ) as raised:
        get_inception(tmp_path)
    (trunk,) = re.findall(r"\((\w{12}), expected 64a9c03be395\); remove it", str(raised.value))
    monkeypatch.setattr(inception, "TRUNK", trunk)
    assert "not the published file: a copy with the known layers" in get_inception(tmp_path)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    assert get_inception(tmp_path).endswith("already, the published file by its sha256")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="is not torch-fidelity's weights file: "):
        get_inception(tmp_path)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Random weights, batch norms and all, in the layout of the published file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=str(path))
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.1), (module.running_var, 0.05), (module.bias, -0.1)):
                tensor.uniform_(low, low + 0.2, generator=generator)
    torch.save(network.state_dict(), path)
    return path


def test_folded_inception_is_torch_fidelitys(inception_file) -> None:
    slow = load_inception(inception_file)
    slow.features_list = ["2048", "logits_unbiased"]
    grabbed = []
    slow.Mixed_6d.register_forward_hook(lambda _module, _inputs, output: grabbed.append(output))
    fast = Inception(load_inception(inception_file)).to(memory_format=torch.channels_last)
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 20, 33), np.uint8))
    pool, logits = slow(images)
    found = fast(images)
    torch.testing.assert_close(found.pool, pool, rtol=1e-5, atol=1e-5 * float(pool.abs().max()))
    torch.testing.assert_close(found.logits, logits, rtol=1e-5, atol=1e-5 * float(logits.abs().max()))
    spatial = grabbed[0].permute(0, 2, 3, 1)[..., :7].flatten(1)  # TensorFlow's order, the first branch's channels
    assert found.spatial.shape == (2, 17 * 17 * 7)
    torch.testing.assert_close(found.spatial, spatial, rtol=1e-5, atol=1e-5 * float(spatial.max()))


@pytest.mark.parametrize("size", [(8, 8), (32, 40), (299, 299), (400, 256)])
def test_images_are_resized_as_torch_fidelity_does(size: tuple[int, int]) -> None:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    images = torch.from_numpy(rng.integers(0, 256, (1, 3, *size), np.uint8)).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False)
    torch.testing.assert_close(resize(images), expected, rtol=0, atol=1e-4)


def test_a_file_without_the_last_layer_gives_no_inception_score(inception_file, tmp_path) -> None:
    from harness.measure.extractors.extractor import array_features, extractor

    weights = torch.load(inception_file, weights_only=True)
    torch.save(weights | {"fc.weight": torch.zeros_like(weights["fc.weight"])}, tmp_path / "trunk.pth")
    network: Extractor = extractor("inception-v3-compat", "", tmp_path, tmp_path, tmp_path / "trunk.pth")
    assert network.no_logits == "trunk.pth lacks Inception's last layer (its weights are zero)"
    found = array_features(rng.integers(0, 256, (2, 3, 8, 8), np.uint8), network)
    assert found.logits is None
    assert found.spatial is not None


def test_the_bytes_that_were_checked_are_those_that_are_loaded(inception_file, tmp_path, monkeypatch) -> None:
    """Whoever can write to the file changes it after it was opened: nothing of the new file runs or counts."""
    path, load = tmp_path / "weights.pth", torch.load
    path.write_bytes(inception_file.read_bytes())

    def load_and_swap(*arguments: object, **options: object) -> object:
        content = load(*arguments, **options)  # type: ignore[arg-type]
        torch.save({"code": Trap(tmp_path / "owned")}, path)
        return content

    monkeypatch.setattr(torch, "load", load_and_swap)
    network = load_inception(path)
    monkeypatch.undo()
    assert inception.trunk_hash(network) == inception.trunk_hash(load_inception(inception_file))
    assert not (tmp_path / "owned").exists()


def test_weights_of_inception_that_are_not_finite_are_refused_by_name(inception_file, tmp_path) -> None:
    weights = torch.load(inception_file, weights_only=True)
    weights["Mixed_5b.branch1x1.conv.weight"][3] = float("nan")
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights.pth: Mixed_5b\.branch1x1\.conv\.weight: 192 of .* not finite"):
        load_inception(tmp_path / "weights.pth")
    weights["Mixed_5b.branch1x1.conv.weight"] = torch.ones(64, 192, 1, 1, dtype=torch.int32)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights.pth: Mixed_5b\.branch1x1\.conv\.weight is of whole numbers"):
        load_inception(tmp_path / "weights.pth")
