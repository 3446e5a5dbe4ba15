"""Operations of measuring, in closed form: of a reference's own numbers, made once, and of each measurement.

As in `flops`, a product of (m, k) with (k, n) is 2 m k n operations, and everything else (roots, eigenvalues, kernels,
comparisons) is none. Letters: N samples, M images of the reference, n of its part, D features. All pairs of features
and all moments are float64; the networks that make features are float32.
"""

from dataclasses import dataclass

from harness.config.settings.data_settings import EvaluationSettings
from harness.config.spec import TrainSpec
from harness.planning import flops

# Images of the data sets that have a reader or are published; of others nothing is known before they are read.
REFERENCE_IMAGES = {
    ("imagenet256", "train"): 1_281_167,
    ("cifar10", "train"): 50_000,
    ("cifar10", "test"): 10_000,
    ("cifar10-5000", "train"): 5_000,
    ("cifar10-5000", "test"): 10_000,
    ("fashion-mnist", "train"): 60_000,
    ("fashion-mnist", "test"): 10_000,
    ("digits", "train"): 1_442,
    ("digits", "test"): 355,
}
WIDTHS = {"inception-v3-compat": 2048, "classifier": 96}
KID_SUBSETS, KID_SUBSET = 100, 1000
PER_FEATURE, COUNTS, FEWEST = 4, 15, 10  # FID∞: from so many samples a feature; so many counts, from N/10 on
DISTANCE = 4  # D³ operations: the two products of a Fréchet distance of well-conditioned covariances


@dataclass(frozen=True)
class ReferenceWork:
    """What is measured against; two measurements that share it share its own numbers. `images` None: not known."""

    dataset: str
    split: str
    features: str
    part: int | None
    images: int | None

    @property
    def width(self) -> int:
        """D."""
        return WIDTHS.get(self.features, 0)  # of a plug-in's nothing is known

    @property
    def rows(self) -> int:
        """Images of its part: n, or M where all are."""
        images = self.images or 0
        return min(self.part or images, images)


def reference_of(train: TrainSpec, settings: EvaluationSettings) -> ReferenceWork:
    """Return what a measurement is made against."""
    name, split = train.data.name, settings.reference
    return ReferenceWork(name, split, settings.features, settings.reference_part, REFERENCE_IMAGES.get((name, split)))


def pairs(rows: int, columns: int, width: int) -> int:
    """Return the operations of all pairs of so many features with so many others."""
    return 2 * rows * columns * width


def moments(rows: int, width: int) -> int:
    """Return the operations of a covariance, or of the matrix of a Vendi score."""
    return 2 * rows * width**2


def once(reference: ReferenceWork) -> int:
    """Return the float64 operations of a reference's own numbers: moments, Vendi score, all pairs, and its part's."""
    images, rows, width = reference.images or 0, reference.rows, reference.width
    own = pairs(images, images, width) + 2 * moments(images, width)
    return own + (pairs(rows, rows, width) if rows < images else 0)


def each(samples: int, reference: ReferenceWork, classes: int) -> int:
    """Return the float64 operations of a measurement of so many samples; classes: of labelled samples and images."""
    images, rows, width = reference.images or 0, reference.rows, reference.width
    across = pairs(samples, images, width) + (pairs(samples, rows, width) if rows < images else 0)
    subset = max(2, min(KID_SUBSET, samples // 2, images // 2))
    kid = KID_SUBSETS * 3 * pairs(subset, subset, width)
    draws = [samples // count * count for count in _counts(samples, width)]
    distances = 1 + sum(samples // count for count in _counts(samples, width))
    rows_of_moments = 2 * samples + sum(draws)
    if min(samples, images) > classes * width:  # FID by class
        rows_of_moments, distances = rows_of_moments + samples + images, distances + classes
    return (
        pairs(samples, samples, width) + across + kid + moments(rows_of_moments, width)
        + distances * DISTANCE * width**3
    )  # fmt: skip


def _counts(samples: int, width: int) -> list[int]:
    """The numbers of samples of which FID is extrapolated."""
    if samples < PER_FEATURE * width:
        return []
    least = max(samples // FEWEST, 2 * width)
    return [least + (samples - least) * i // (COUNTS - 1) for i in range(COUNTS)]


def copying(samples: int, train: TrainSpec, settings: EvaluationSettings) -> int:
    """Return the float64 operations of finding the nearest training images of samples and of held-out images; 0 where
    the data set has none, or nobody knows how many. The features of its splits, made once, are not among them."""
    images = [REFERENCE_IMAGES.get((train.data.name, split), 0) for split in ("train", "test")]
    if settings.held_out is None or 0 in images:
        return 0
    return pairs(samples + images[1], train.data.subset or images[0], WIDTHS.get(settings.features, 0))


def losses(train: TrainSpec, settings: EvaluationSettings) -> int:
    """Return the float32 operations of the denoising loss on both splits."""
    return 2 * (settings.held_out or 0) * flops.network(train).forward


def networks(samples: int, train: TrainSpec, features: str) -> int:
    """Return the float32 operations of turning samples into features; latents are decoded first."""
    return samples * flops.measuring(train, features)


def networks_once(reference: ReferenceWork) -> int:
    """Return the float32 operations of turning a reference into features, whose images are kept decoded."""
    return (reference.images or 0) * (flops.INCEPTION if reference.features == "inception-v3-compat" else 0)
