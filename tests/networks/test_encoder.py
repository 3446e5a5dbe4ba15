"""Frozen encoders: their features, our own, those of a file, and which are refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from support.specs import DATA, OWN, REPA, aligned_spec
from support.trainings import made_up_images

from harness.config.spec import Alignment, TrainSpec
from harness.data.datasets import ImageDataset, LatentDataset, load, load_images
from harness.errors import UserError
from harness.networks.encoder import FrozenEncoder, check_encoder, load_encoder, parameters
from harness.networks.supervised import resize


def test_features_are_the_patch_tokens_of_the_normalised_image():
    torch.manual_seed(0)
    network = timm.create_model("test_vit", img_size=32, patch_size=8, num_classes=0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    images = torch.from_numpy(made_up_images(3, 3, 32))
    x = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    tokens = network.eval().forward_features(x.float())
    assert tokens.shape == (3, 1 + 16, 64)
    exact = FrozenEncoder(network, 32, mean, std, "bicubic", 4, {})
    assert exact.width == 64
    torch.testing.assert_close(exact(images), tokens[:, 1:], atol=1e-5, rtol=1e-5)
    grey = images[:, :1]
    torch.testing.assert_close(exact(grey), exact(grey.expand(-1, 3, -1, -1)))


def test_another_grid_is_resampled_where_it_lies():
    """Row by row, the features of a map that grows to the right and downwards do so on the other grid."""

    class Ramp(torch.nn.Module):
        def forward_intermediates(self, x, **_):
            across = torch.arange(4.0).view(1, 1, 1, 4).expand(len(x), 1, 4, 4)
            return [torch.cat((across, across.transpose(2, 3)), dim=1)]

    def features(grid: int) -> torch.Tensor:
        return FrozenEncoder(Ramp(), 8, (0.5,), (0.5,), "bilinear", grid, {})(torch.zeros(1, 1, 8, 8))

    assert features(2).shape == (1, 4, 2)
    column, row = features(2)[0].T
    assert column[0] == column[2] < column[1] == column[3]
    assert row[0] == row[1] < row[2] == row[3]
    assert column[0] == pytest.approx((0.75 * 0 + 0.75 * 1 + 0.25 * 2) / 1.75)  # a triangle as wide as the new token
    assert column[:2].mean() == pytest.approx(1.5)
    assert features(8).shape == (1, 64, 2)


def test_our_own_encoder_is_made_once_and_sees_what_it_learned_from(tmp_path):
    spec = aligned_spec(data=DATA.model_copy(update={"name": "digits"}))
    first, again = (load_encoder(spec, tmp_path / "data", tmp_path / "cache") for _ in range(2))
    assert len(list((tmp_path / "cache").glob("encoder-digits-*.safetensors"))) == 1
    test = load_images("digits", "test", tmp_path / "data")
    images = torch.from_numpy(np.array(test.images[:5]))
    assert first(images).shape == (5, 4, 64)
    assert torch.equal(first(images), again(images))
    record = first.record
    assert (record["images_seen"], record["images"]) == (16, len(load_images("digits", "train", tmp_path / "data")))
    assert record["parameters"] == parameters(first.network)
    # The mean of its tokens is what it was trained to name the digit from.
    named = first.network(resize(images, 16))
    whole = FrozenEncoder(first.network, 16, (0.5,), (0.5,), "bilinear", 4, {})(images)
    torch.testing.assert_close(first.network.head(whole.mean(1)), named)
    check_encoder(spec.alignment, load("digits", "train", tmp_path / "data"), tmp_path / "data")


def public(weights: str = "published", encoder: str = "test_vit.r160_in1k", side: int | None = None) -> TrainSpec:
    alignment = Alignment(
        loss="cosine", coefficient=0.5, block=1, hidden=8, encoder=encoder, weights=weights, side=side
    )
    return aligned_spec(alignment=alignment)


@pytest.fixture
def file_of_weights(tmp_path: Path) -> tuple[Path, str, torch.nn.Module]:
    torch.manual_seed(0)
    network = timm.create_model("test_vit")
    path = tmp_path / "encoders" / "some.safetensors"
    path.parent.mkdir()
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest(), network.eval()


def test_weights_of_a_file_are_found_by_their_content(file_of_weights, tmp_path):
    _, sha256, network = file_of_weights
    encoder = load_encoder(public(sha256), tmp_path, tmp_path)
    assert (encoder.side, encoder.interpolation) == (160, network.pretrained_cfg["interpolation"])
    images = torch.from_numpy(made_up_images(2, 3, 160))
    reference = FrozenEncoder(
        network, 160, network.pretrained_cfg["mean"], network.pretrained_cfg["std"], "bicubic", 2, {}
    )
    torch.testing.assert_close(encoder(images), reference(images))
    small = load_encoder(public(sha256, side=32), tmp_path, tmp_path)
    assert small.network.patch_embed.grid_size == (2, 2)
    with pytest.raises(UserError, match=rf"no file of sha256 {'0' * 64} in .*encoders \(it holds some.safetensors\)"):
        load_encoder(public("0" * 64), tmp_path, tmp_path)


class Surprise:
    """What no checkpoint may do."""

    def __reduce__(self):
        return (pytest.fail, ("code in a pickle was run",))


@pytest.mark.parametrize("what", ["another network", "a missing tensor", "no tensors", "code"])
def test_a_file_that_is_not_the_models_weights_is_refused(file_of_weights, tmp_path, what):
    path, _, network = file_of_weights
    tensors = network.state_dict()
    if what == "another network":
        save_file(timm.create_model("test_resnet").state_dict(), path)
    elif what == "a missing tensor":
        save_file({name: t for name, t in tensors.items() if name != "head.weight"}, path)
    elif what == "no tensors":
        path.write_bytes(b"nothing of use")
    else:
        path = path.rename(path.with_suffix(".pth"))
        torch.save({"state_dict": tensors, "more": Surprise()}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"{path.name}: not weights of test_vit"):
        load_encoder(public(sha256), tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t * float("nan"), "49,152 of 49,152 values are not finite"),
        (lambda t: t.int(), "patch_embed.proj.weight is of whole numbers"),
        (lambda t: t.to(torch.complex64), "patch_embed.proj.weight is complex; dense tensors of real numbers are read"),
    ],
)
@pytest.mark.filterwarnings("ignore:Casting complex values")
def test_an_encoders_weights_that_are_no_numbers_are_refused_by_name(file_of_weights, tmp_path, spoil, words):
    path, _, network = file_of_weights
    name = "patch_embed.proj.weight"
    torch.save(network.state_dict() | {name: spoil(network.state_dict()[name])}, path.with_suffix(".pth"))
    sha256 = hashlib.sha256(path.with_suffix(".pth").read_bytes()).hexdigest()
    with pytest.raises(UserError, match=rf"some\.pth: .*{words}"):
        load_encoder(public(sha256), tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (public(encoder="vit_of_nobody"), "timm .* has no model 'vit_of_nobody'"),
        (public("1" * 64), "no file of sha256 1111"),
        (aligned_spec(alignment=REPA.model_copy(update={"own": OWN.model_copy(update={"architecture": "resnet18"})})),
         "no VisionTransformer 'resnet18'"),
    ],
)  # fmt: skip
def test_an_encoder_that_cannot_be_had_is_refused_before_the_training(spec, message, tmp_path):
    with pytest.raises(UserError, match=message):
        check_encoder(spec.alignment, load("digits", "train", tmp_path), tmp_path)


def latents(images: np.ndarray | None) -> LatentDataset:
    moments = np.zeros((4, 2, 2, 2), np.float32)
    labels = np.zeros(4, np.int64)
    photos = None if images is None else ImageDataset("photos", "train", labels, 10, "", images, True)
    return LatentDataset("photos", "train", labels, 10, "", moments, moments, 1.0, "mean,logvar", photos)


def test_the_encoder_sees_the_photographs_behind_the_latents_flipped_with_them():
    images = made_up_images(4, 3, 16)
    dataset, indices = latents(images), np.array([2, 0, 3])
    flips = torch.tensor([True, False, True])
    seen = dataset.images_for(indices, (torch.zeros(3, 1, 2, 2), flips)).numpy()
    for shown, index, flip in zip(seen, indices, flips, strict=True):
        np.testing.assert_array_equal(shown, images[index, :, :, ::-1] if flip else images[index])
    with pytest.raises(UserError, match=r"data set photos: .*images.npy.* encode again with --keep-images"):
        check_encoder(public().alignment, latents(None), Path())
