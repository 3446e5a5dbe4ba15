"""Data sets: batches are functions of position; refusals are one line."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.raw_data import seeded, write_latents
from support.trainings import make_dataset

from harness.commands.data_encode import get_by_name
from harness.config.settings.data_settings import Data
from harness.data.datasets import Dataset, load, load_training, positions
from harness.errors import UserError


def test_pixels_and_flips(digits: Path) -> None:
    plain, flipping = (load("digits", "train", digits, flip=flip) for flip in (False, True))
    indices = np.array([5, 3, 5])
    x, y = plain.batch(indices, plain.draw(3, seeded()))
    np.testing.assert_allclose(x.numpy(), plain.images[indices] / 127.5 - 1, atol=1e-7)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert y.tolist() == plain.labels[indices].tolist()
    mixed, _ = flipping.batch(indices, (torch.tensor([False, True, True]),))
    assert torch.equal(mixed, torch.stack([x[0], x[1].flip(-1), x[2].flip(-1)]))
    (coins,) = flipping.draw(10_000, seeded())
    assert 0.48 < coins.float().mean() < 0.52


@pytest.mark.parametrize("convention", ["mean,logvar", "mean,std"])
def test_latents_follow_the_scaled_posterior(tmp_path: Path, convention: str) -> None:
    mean, sigma = write_latents(tmp_path / "imagenet256", convention)
    latents = load("imagenet256", "train", tmp_path)
    assert latents.shape == (4, 2, 2)
    assert len(latents) == 6
    assert latents.classes == 3
    draws = latents.draw(20_000, seeded())
    x, y = latents.batch(np.full(20_000, 4), draws)
    assert y.unique().tolist() == [1]
    np.testing.assert_allclose(x.mean(0), 0.18215 * mean[4], atol=5 * 0.18215 * 2 / 20_000**0.5)
    np.testing.assert_allclose(x.std(0), 0.18215 * sigma[4], rtol=0.03)
    assert "sha256 as in meta.json" in get_by_name("imagenet256", tmp_path)


def test_flipped_latents_are_those_of_the_flipped_images(tmp_path: Path) -> None:
    mean, _ = write_latents(tmp_path / "imagenet256")
    latents = load("imagenet256", "train", tmp_path, flip=True)
    x, _ = latents.batch(np.array([2, 2]), (torch.zeros(2, 4, 2, 2), torch.tensor([False, True])))
    np.testing.assert_allclose(x.numpy(), 0.18215 * np.stack([mean[2], mean[2, ..., ::-1]]), atol=1e-3)
    (tmp_path / "imagenet256" / "moments_flip.npy").unlink()
    with pytest.raises(UserError, match=r"flips need .*moments_flip\.npy"):
        load("imagenet256", "train", tmp_path, flip=True)


@pytest.mark.parametrize("kind", ["images", "latents"])
def test_a_rank_can_load_only_its_slice(digits: Path, tmp_path: Path, kind: str) -> None:
    write_latents(tmp_path / "imagenet256")
    dataset: Dataset = (
        load("digits", "train", digits, flip=True) if kind == "images" else load("imagenet256", "train", tmp_path, True)
    )
    indices, draws = positions(0, 3, 16, len(dataset)), dataset.draw(16, seeded())
    whole, labels = dataset.batch(indices, draws)
    for part in (slice(0, 4), slice(4, 12), slice(12, 16)):
        x, y = dataset.batch(indices[part], tuple(draw[part] for draw in draws))
        assert torch.equal(x, whole[part])
        assert torch.equal(y, labels[part])


def test_a_subset_is_drawn_by_the_seed_alone_of_all_classes_alike_and_smaller_ones_lie_in_larger(digits: Path) -> None:
    def taken(size: int | None, seed: int = 0) -> Dataset:
        return load_training(Data(name="digits", channels=1, size=8, classes=10, flip=False, subset=size), seed, digits)

    whole, some, more, all_of_it = (taken(size) for size in (None, 205, 400, 1442))
    assert sorted(np.bincount(some.labels).tolist()) == [20] * 5 + [21] * 5
    assert set(some.items) < set(more.items)
    assert np.array_equal(taken(205).items, some.items)
    assert 10 < len(set(some.items) & set(taken(205, seed=1).items)) < 60  # 29 by chance
    x, y = some.batch(np.array([7, 0]), ())
    assert torch.equal(x, whole.batch(some.items[[7, 0]], ())[0])
    assert y.tolist() == [some.labels[7], some.labels[0]] == whole.labels[some.items[[7, 0]]].tolist()
    assert np.array_equal(all_of_it.items, np.arange(len(whole)))  # trained on as the whole is
    with pytest.raises(UserError, match=r"data\.subset: 1,443 of digits, which has 1,442 images"):
        taken(1443)


def test_positions_are_one_stream_of_permutations() -> None:
    length, batch = 10, 4
    stream = np.concatenate([positions(7, step, batch, length) for step in range(15)])
    epochs = stream.reshape(-1, length)
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    np.testing.assert_array_equal(stream, np.concatenate([positions(7, step, 12, length) for step in range(5)]))
    np.testing.assert_array_equal(positions(7, 0, 3 * length, length), stream[: 3 * length])
    assert not np.array_equal(positions(8, 0, length, length), stream[:length])
    # Pinned: a change here would silently change every stored run.
    assert positions(7, 1, batch, length).tolist() == [8, 6, 0, 5]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion-mnist", "fashion-mnist .*run: harness data get fashion-mnist"),
        ("cifar10", "cifar-10-batches-bin or cifar-10-batches-py in .*run: harness data get cifar10"),
        ("imagenet256", "not one of digits, fashion-mnist, cifar10, cifar10-5000, and .*imagenet256 lacks moments.npy"),
    ],
)
def test_missing_dataset_is_one_line_and_writes_nothing(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^data set {name}: .*{words}") as raised:
        load(name, "train", tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_flips_are_those_of_the_pixels():
    dataset = make_dataset()
    flips = dataset.draw(8, torch.Generator().manual_seed(0))
    x, _ = dataset.batch(np.arange(8), flips)
    still = dataclasses.replace(dataset, flip=False).batch(np.arange(8), ())[0]
    assert torch.equal(x, torch.where(flips[0][:, None, None, None], still.flip(-1), still))
