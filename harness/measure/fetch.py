"""`harness data get NAME`: fetch what can be fetched, check it, convert it, and say plainly what is left to do."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.data.convert import content_hash, convert, read_meta
from harness.data.datasets import load_images
from harness.data.raw_files import (
    LATENT_FILES,
    find_cifar10,
    find_fashion_mnist,
    open_latents,
    read_bytes,
    read_latent_meta,
)
from harness.errors import UserError, nearest
from harness.files import sha256_of

# sha256 of the IDX files inside the four published archives; the wrapping .gz differs from copy to copy.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
# md5 as published with the binary version.
CIFAR10_MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
INCEPTION = "inception-v3-compat"
INCEPTION_SHA256 = "6726825d"  # its beginning, part of the published file's name
# `trunk_hash` of a copy whose last layer is zero. Known by its numbers: its FID between two sets of CIFAR-10 images is
# the one that torch-fidelity publishes, to 3e-8 of the value.
INCEPTION_TRUNK = "64a9c03be395"


def get(name: str, root: Path) -> str:
    """Fetch, check and convert what `name` stands for; returns a sentence that says what was done.

    Raises:
        UserError: an unknown name, a failed download or a wrong checksum, with what to do about it.
    """
    if name not in GETTERS and (root / name / "meta.json").is_file():
        return _get_latents(name, root)
    if name not in GETTERS:
        raise UserError(f"data get {name}: unknown{nearest(name, GETTERS)}")
    return GETTERS[name](root)


def _get_digits(root: Path) -> str:
    return "digits: nothing to fetch, scikit-learn brings them; " + _converted("digits", root)


def _get_fashion_mnist(root: Path) -> str:
    if find_fashion_mnist(root) is None:
        from torchvision.datasets import FashionMNIST

        advice = f"apt-get install dataset-fashion-mnist, or put the four IDX files into {root / 'fashion-mnist'}"
        _download("fashion-mnist", lambda: FashionMNIST(str(root), download=True), advice)
    folder = find_fashion_mnist(root)
    assert folder is not None
    for name, sha256 in FASHION_MNIST_SHA256.items():
        _check(folder / name, hashlib.sha256(read_bytes(folder / name)).hexdigest(), sha256)
    return f"fashion-mnist: the four published files are in {folder}; " + _converted("fashion-mnist", root)


def _get_cifar10(root: Path) -> str:
    folder = find_cifar10(root)
    if folder is None or folder.name.endswith("-py"):
        from torchvision.datasets import CIFAR10

        advice = f"put cifar-10-batches-py/ or cifar-10-batches-bin/ (the published archives, unpacked) into {root}"
        _download("cifar10", lambda: CIFAR10(str(root), download=True), advice)  # also checks what is there already
    else:
        for name, md5 in CIFAR10_MD5.items():
            _check(folder / name, hashlib.md5(read_bytes(folder / name), usedforsecurity=False).hexdigest(), md5)
    return f"cifar10: the published batches are in {find_cifar10(root)}; " + _converted("cifar10", root)


def _get_latents(name: str, root: Path) -> str:
    folder = root / name
    if not (folder / "meta.json").is_file():
        raise UserError(
            f"{name}: photos must be encoded first, run: harness encode PHOTOS {name} --autoencoder FOLDER "
            f"[--keep-images]; {folder} needs {LATENT_FILES}"
        )
    meta = read_latent_meta(folder)
    arrays = open_latents(folder, meta["moments"])
    _check(folder / "moments.npy", content_hash(*arrays), meta["sha256"])
    if "images_sha256" in meta:
        images = load_images(name, "train", root)
        _check(folder / "images.npy", content_hash(images.images, images.labels), meta["images_sha256"])
    return f"{name}: {len(arrays[0]):,} packed latents in {folder}, sha256 as in meta.json"


def _get_inception(root: Path) -> str:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = root / f"{INCEPTION}.pth"
    if path.is_file():
        return f"{INCEPTION}: at {path} already, {_recognised(path)}"

    def download() -> None:
        root.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), INCEPTION_SHA256)

    _download(INCEPTION, download, f"put {URL_INCEPTION_V3.rsplit('/', 1)[1]} at {path}")
    return f"{INCEPTION}: weights fetched to {path}"


def _recognised(path: Path) -> str:
    """Say which of the known copies of Inception's weights a file is: the published one, or only its features.

    Raises:
        UserError: none of them.
    """
    sha256 = sha256_of(path)
    if sha256.startswith(INCEPTION_SHA256):
        return "the published file by its sha256"
    from harness.measure.extractors.inception import load_inception, trunk_hash

    trunk = trunk_hash(load_inception(path))
    if trunk != INCEPTION_TRUNK:
        raise UserError(
            f"{path}: neither the published file (sha256 {sha256[:8]}…, expected {INCEPTION_SHA256}…) nor a known copy "
            f"of its layers up to the pooled features ({trunk}, expected {INCEPTION_TRUNK}); remove it, fetch it again"
        )
    return "not the published file: a copy with the known layers up to the pooled features, all that is used here"


GETTERS: dict[str, Callable[[Path], str]] = {
    "digits": _get_digits,
    "fashion-mnist": _get_fashion_mnist,
    "cifar10": _get_cifar10,
    "imagenet256": partial(_get_latents, "imagenet256"),
    "imagenet-sample": partial(_get_latents, "imagenet-sample"),
    INCEPTION: _get_inception,
}


def _download(name: str, download: Callable[[], object], advice: str) -> None:
    """Run somebody else's downloader, whose failures come as all kinds of exceptions."""
    try:
        download()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: could not be downloaded ({reason}); {advice}") from None


def _check(path: Path, found: str, expected: str) -> None:
    if not found.startswith(expected):
        raise UserError(
            f"{path}: checksum {found[:12]}… is not the expected {expected[:12]}…; remove it, fetch it again"
        )


def _converted(name: str, root: Path) -> str:
    folder = convert(name, root)
    content = read_meta(folder)["content"]
    return f"arrays in {folder} (" + ", ".join(f"{split} {sha256[:12]}" for split, sha256 in content.items()) + ")"
