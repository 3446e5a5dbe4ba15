"""Data sets are fetched where they can be, checked against their published sums, and converted. No torch at import."""

import hashlib
from pathlib import Path

from harness.data import latents, raw_files
from harness.data.cache import content_hash
from harness.errors import UserError, user_error


def get_digits(root: Path) -> str:
    """Convert scikit-learn's digits; like all of these functions, return a sentence that says what was done."""
    return "digits: nothing to fetch, scikit-learn brings them; " + _converted("digits", root)


def get_published(name: str, root: Path) -> str:
    """Fetch a published data set where it is missing, check and convert it.

    Raises:
        UserError: a failed download or a wrong checksum, with what to do about it.
    """
    published, folder = raw_files.PUBLISHED[name], raw_files.find_raw(name, root)
    if folder is None or folder.name.endswith("-py"):
        from torchvision import datasets

        with user_error(f"{name}: could not be downloaded", published["advice"].format(root=root)):
            getattr(datasets, published["torchvision"])(str(root), download=True)  # also checks what is there already
        folder = raw_files.raw_folder(name, root)
    if not folder.name.endswith("-py"):
        for file, expected in published["sums"].items():
            digest = hashlib.new(published["algorithm"], raw_files.read_bytes(folder / file), usedforsecurity=False)
            _check_sum(folder / file, digest.hexdigest(), expected)
    return f"{name}: the published files are in {folder}; " + _converted(name, root)


def check_latents(name: str, root: Path) -> str:
    """Check packed latents against the sums in their meta.json.

    Raises:
        UserError: there are none, with the command that makes them; or a wrong checksum.
    """
    from harness.data.datasets import load_images

    folder, meta = root / name, latents.read_meta(name, root)
    arrays = latents.open_arrays(folder, meta.moments, meta.classes)
    _check_sum(folder / latents.MOMENTS, content_hash(*arrays), meta.sha256)
    if meta.images_sha256:
        images = load_images(name, "train", root)
        _check_sum(folder / latents.IMAGES, content_hash(images.images, images.labels), meta.images_sha256)
    return f"{name}: {len(arrays[0]):,} packed latents in {folder}, sha256 as in meta.json"


def _check_sum(path: Path, actual: str, expected: str) -> None:
    if actual != expected:
        raise UserError(
            f"{path}: checksum {actual[:12]}… is not the expected {expected[:12]}…; remove it, fetch it again"
        )


def _converted(name: str, root: Path) -> str:
    folder, meta = raw_files.convert(name, root)
    sums = ", ".join(f"{split} {sha256[:12]}" for split, sha256 in meta.content.items())
    return f"arrays in {folder} ({sums})"
