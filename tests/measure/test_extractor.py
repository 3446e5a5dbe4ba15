"""The classifiers that stand for Inception: trained once, damage told, the same on any machine; any network of timm."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from support.places import ROOT

from harness.data.datasets import ImageDataset
from harness.errors import UserError
from harness.measure.extractors.extractor import (
    RECIPES,
    Extractor,
    arithmetic_of,
    array_features,
    classifier_outputs,
    extractor,
    recipe_of,
)
from harness.measure.extractors.inception import Outputs
from harness.networks import supervised
from harness.networks.supervised import TrainedNetwork, augment, build, fit, resize, trained

rng = np.random.default_rng(0)


def classifier(train: ImageDataset, test: ImageDataset, cache: Path) -> TrainedNetwork:
    return trained("classifier", recipe_of(train.name), train, test, cache)


def test_the_digits_classifier_is_on_every_machine_that_of_the_committed_study(
    digits: tuple[ImageDataset, ImageDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "fit", lambda *_: pytest.fail("trained"))
    made = classifier(*digits, tmp_path)
    committed = next((ROOT / "results" / "digits").glob("*/evals/*.json")).read_text(encoding="utf-8")
    assert json.loads(committed)["protocol"]["features"] == f"classifier-digits-{made.record['weights'][:12]}"
    right = supervised.accuracy(made.network, recipe_of("digits"), digits[1])
    assert right == made.record["accuracy"] > 0.99


def test_classifier_is_trained_once(
    digits: tuple[ImageDataset, ImageDataset], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = digits
    first = classifier(train, test, cache)
    monkeypatch.setattr(supervised, "fit", lambda *_: pytest.fail("trained again"))
    again = classifier(train, test, cache)
    images = torch.from_numpy(np.array(test.images[:7]))
    assert torch.equal(classifier_outputs(first, images).pool, classifier_outputs(again, images).pool)
    assert classifier_outputs(first, images).pool.shape == (7, 96)
    assert not again.network.training
    other = dataclasses.replace(train, content="of other images")
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        classifier(other, test, cache)
    with pytest.raises(UserError, match="no recipe for data set faces; legal: digits"):
        classifier(dataclasses.replace(train, name="faces"), test, cache)


def flip_a_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("suffix", "damage", "reason"),
    [
        (".json", lambda content: content[:40], "Unterminated|Expecting|Invalid"),
        (".json", lambda _: b"{}", "weights"),
        (".json", lambda _: b"[]", "list indices"),
        (".safetensors", lambda content: content[:-40], "sha256"),
        (".safetensors", flip_a_bit, "sha256"),
        (".safetensors", None, "No such file"),
    ],
)
def test_a_damaged_classifier_is_one_line_that_says_what_to_delete(
    digits: tuple[ImageDataset, ImageDataset],
    cache: Path,
    tmp_path: Path,
    suffix: str,
    damage: Callable[[bytes], bytes] | None,
    reason: str,
) -> None:
    classifier(*digits, cache)
    shutil.copytree(cache, tmp_path / "cache")
    record = next((tmp_path / "cache").glob("classifier-digits-*.json"))
    path = record.with_suffix(suffix)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"^{path}: damaged: .*({reason}).*; delete {record}, and it is made again$"):
        classifier(*digits, tmp_path / "cache")


def test_training_depends_on_neither_threads_nor_the_state_of_torch(digits: tuple[ImageDataset, ImageDataset]) -> None:
    recipe, threads = dataclasses.replace(RECIPES["digits"], steps=3), torch.get_num_threads()
    runs = []
    for seed, count in ((1, 1), (2, 2)):
        torch.set_num_threads(count)
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        runs.append(fit(recipe, digits[0]).state_dict())
        assert torch.get_num_threads() == count
        assert torch.equal(torch.get_rng_state(), state)
    torch.set_num_threads(threads)
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_training_and_test_images_are_resized_alike(digits: tuple[ImageDataset, ImageDataset]) -> None:
    images = torch.from_numpy(np.array(digits[0].images[:5]))
    still = dataclasses.replace(RECIPES["digits"], shift=0, mirror=False)
    torch.testing.assert_close(augment(images, still), resize(images, still.side))
    mirrored = augment(images, dataclasses.replace(still, mirror=True))
    upright = resize(images, still.side)
    flips = [torch.allclose(m, u.flip(-1), atol=1e-5) for m, u in zip(mirrored, upright, strict=True)]
    assert all(f or torch.allclose(m, u, atol=1e-5) for f, m, u in zip(flips, mirrored, upright, strict=True))


def test_classifiers_fit_their_images(digits: tuple[ImageDataset, ImageDataset]) -> None:
    for name, recipe in RECIPES.items():
        C, side = (3, 32) if name == "cifar10" else (1, 28)
        stand_in = dataclasses.replace(digits[0], images=np.zeros((2, C, side, side), np.uint8))
        out = build(recipe, stand_in).eval()(resize(torch.from_numpy(stand_in.images), recipe.side))
        assert out.shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "width"), [("test_vit.r160_in1k", 64), ("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", 512)]
)
def test_features_of_any_network_of_timm(tmp_path, name: str, width: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    made = extractor(name, "", tmp_path, tmp_path, tmp_path / "weights.pth")
    images = rng.integers(0, 256, (2, 3, 20, 20), np.uint8)
    found = array_features(images, made).pool
    cfg = network.pretrained_cfg
    x = torch.stack([torch.from_numpy(image).float() / 255 for image in images])
    x = F.interpolate(x, cfg["input_size"][1:], mode="bicubic", antialias=True)
    x = (x - torch.tensor(cfg["mean"])[:, None, None]) / torch.tensor(cfg["std"])[:, None, None]
    with torch.no_grad():  # CLIP's embedding is what timm has for its classes
        expected = network(x) if "clip" in name else network.forward_head(network.forward_features(x), pre_logits=True)
    assert found.shape == (2, width)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    grey = array_features(images[:, :1], made).pool
    np.testing.assert_allclose(grey, array_features(images[:, :1].repeat(3, 1), made).pool, rtol=1e-5, atol=1e-5)
    assert made.foreign
    with pytest.raises(UserError, match=r"weights.pth: not weights of test_resnet: "):
        extractor("test_resnet", "", tmp_path, tmp_path, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="features 'vit_nano' are unknown; legal: "):
        extractor("vit_nano", "", tmp_path, tmp_path)


def test_float32_of_a_gpu_is_no_tf32_and_the_id_says_whose_arithmetic_it_is() -> None:
    seen = []

    def network(images: torch.Tensor) -> Outputs:
        seen.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
        return Outputs(images.float().mean((2, 3)))

    torch.set_float32_matmul_precision("high")
    try:
        before = torch.backends.cudnn.allow_tf32
        array_features(np.zeros((3, 3, 4, 4), np.uint8), Extractor("means", "", network, torch.device("cpu")))
        assert seen == [(False, "highest")]
        assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (before, "high")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert [arithmetic_of(torch.device(name)) for name in ("cpu", "cuda", "cuda:3")] == ["", "-cuda-fp32", "-cuda-fp32"]
