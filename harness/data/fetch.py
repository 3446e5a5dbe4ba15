"""Data sets are fetched where they can be, checked against their published sums, and converted. No torch at import."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.data.convert import content_hash, convert, read_meta
from harness.data.latents import FILES, IMAGES, MOMENTS, open_latents, read_latent_meta
from harness.data.raw_files import find_raw, raw_folder, read_bytes
from harness.errors import UserError, one_line

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


def get_digits(root: Path) -> str:
    """Convert scikit-learn's digits; like all of these functions, return a sentence that says what was done."""
    return "digits: nothing to fetch, scikit-learn brings them; " + _converted("digits", root)


def get_fashion_mnist(root: Path) -> str:
    """Fetch Fashion-MNIST where it is missing, check and convert it.

    Raises:
        UserError: a failed download or a wrong checksum, with what to do about it.
    """
    if find_raw("fashion-mnist", root) is None:
        from torchvision.datasets import FashionMNIST

        advice = f"apt-get install dataset-fashion-mnist, or put the four IDX files into {root / 'fashion-mnist'}"
        download("fashion-mnist", lambda: FashionMNIST(str(root), download=True), advice)
    folder = raw_folder("fashion-mnist", root)
    _check_published(folder, FASHION_MNIST_SHA256, "sha256")
    return f"fashion-mnist: the four published files are in {folder}; " + _converted("fashion-mnist", root)


def get_cifar10(root: Path) -> str:
    """Fetch CIFAR-10 where it is missing, check and convert it.

    Raises:
        UserError: as `get_fashion_mnist`.
    """
    folder = find_raw("cifar10", root)
    if folder is None or folder.name.endswith("-py"):
        from torchvision.datasets import CIFAR10

        advice = f"put cifar-10-batches-py/ or cifar-10-batches-bin/ (the published archives, unpacked) into {root}"
        download("cifar10", lambda: CIFAR10(str(root), download=True), advice)  # also checks what is there already
    else:
        _check_published(folder, CIFAR10_MD5, "md5")
    return f"cifar10: the published batches are in {raw_folder('cifar10', root)}; " + _converted("cifar10", root)


def check_latents(name: str, root: Path) -> str:
    """Check packed latents against the sums in their meta.json.

    Raises:
        UserError: there are none, with the command that makes them; or a wrong checksum.
    """
    from harness.data.datasets import load_images

    folder = root / name
    if not (folder / "meta.json").is_file():
        raise UserError(
            f"{name}: photos must be encoded first, run: harness encode PHOTOS {name} --autoencoder FOLDER "
            f"[--keep-images]; {folder} needs {FILES}"
        )
    meta = read_latent_meta(folder)
    arrays = open_latents(folder, meta.moments)
    _check_sum(folder / MOMENTS, content_hash(*arrays), meta.sha256)
    if meta.images_sha256:
        images = load_images(name, "train", root)
        _check_sum(folder / IMAGES, content_hash(images.images, images.labels), meta.images_sha256)
    return f"{name}: {len(arrays[0]):,} packed latents in {folder}, sha256 as in meta.json"


def download(name: str, downloader: Callable[[], object], advice: str) -> None:
    """Run somebody else's downloader, whose failures come as all kinds of exceptions.

    Raises:
        UserError: it failed; why, and the advice.
    """
    try:
        downloader()
    except Exception as error:
        raise UserError(f"{name}: could not be downloaded ({one_line(error)}); {advice}") from None


def _check_published(folder: Path, sums: Mapping[str, str], algorithm: str) -> None:
    for name, expected in sums.items():
        digest = hashlib.new(algorithm, read_bytes(folder / name), usedforsecurity=False)
        _check_sum(folder / name, digest.hexdigest(), expected)


def _check_sum(path: Path, actual: str, expected: str) -> None:
    if actual != expected:
        raise UserError(
            f"{path}: checksum {actual[:12]}… is not the expected {expected[:12]}…; remove it, fetch it again"
        )


def _converted(name: str, root: Path) -> str:
    folder = convert(name, root)
    sums = ", ".join(f"{split} {sha256[:12]}" for split, sha256 in read_meta(folder).content.items())
    return f"arrays in {folder} ({sums})"
