"""What each metric is: one table, read by the measurements, by the report and by the documentation; needs no torch.

A metric's name is its protocol: what the name settles stands here; data, features and counts are said beside the
numbers. Behind a colon the name carries the features that the number was taken from, where they are not those of its
measurement or where the metric was published for others: `cmmd:classifier`, `fd:vit_small_patch14_dinov2.lvd142m`.
"""

from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Definition:
    """One metric.

    direction: which is better, "" for neither. decimals: with how many it is printed. definition: what is computed, in
    a sentence. source: where it was published.
    """

    title: str
    direction: Direction
    decimals: int
    definition: str
    source: str


ARROWS = {"lower": "↓", "higher": "↑", "": ""}
INTRODUCTION = """\
# The metrics

Made by `make docs`. The arrow says which direction is better. A measurement stores each of
its metrics, or under `unavailable` why there is none; under `details` lie FID by the number of samples and by class,
the samples nearest to training images, and in `details.real` the same numbers of the real images themselves. Names
with features behind a colon, `cmmd:classifier` or `fd:vit_small_patch14_dinov2.lvd142m`, say what network they are of.

| name | metric | what is computed | source |
|---|---|---|---|
"""
FRECHET = "Fréchet distance of the pooled features, float64, unbiased covariances"
KERNEL = "unbiased MMD² with the kernel (x·y/D + 1)³, mean over 100 random subsets"
BALLS = "the ball that reaches to"
INFINITY = (
    "intercept of the line through the Fréchet distances of 15 counts N' against 1/N', from N/10 (at least 2D) to N, "
    "each the mean over disjoint draws"
)
BY_CLASS = "mean over classes of the Fréchet distance of each class; needs more images than features in every class"
HEUSEL = "Heusel et al. 2017, arXiv 1706.08500"
BINKOWSKI = "Bińkowski et al. 2018, arXiv 1801.01401"
CHONG = "Chong & Forsyth 2020, arXiv 1911.07023"
MIYATO = "intra FID of Miyato & Koyama 2018, arXiv 1802.05637"
KYNKAANNIEMI = "Kynkäänniemi et al. 2019, arXiv 1904.06991"
NAEEM = "Naeem et al. 2020, arXiv 2002.09797"
STEIN = "Stein et al. 2023, arXiv 2306.04675"

DEFINITIONS = {
    "fid": Definition("FID", "lower", 2, FRECHET, HEUSEL),
    "fid_infinity": Definition("FID∞", "lower", 2, INFINITY, CHONG),
    "class_fid": Definition("per-class FID", "lower", 2, BY_CLASS, MIYATO),
    "sfid": Definition(
        "sFID", "lower", 2, "Fréchet distance of ADM's spatial features: 7 channels of mixed_6/conv at 17×17",
        "Nash et al. 2021, arXiv 2103.03841, as in ADM's suite",
    ),
    "kid": Definition("KID", "lower", 4, KERNEL, BINKOWSKI),
    "inception_score": Definition(
        "Inception Score", "higher", 2,
        "exp E KL(p(y|x) ‖ p(y)), ten splits of a fixed permutation, logits without bias",
        "Salimans et al. 2016, arXiv 1606.03498",
    ),
    "precision": Definition(
        "precision", "higher", 3, f"share of samples in {BALLS} the 3rd nearest of any real image", KYNKAANNIEMI
    ),
    "recall": Definition(
        "recall", "higher", 3, f"share of real images in {BALLS} the 3rd nearest of any sample", KYNKAANNIEMI
    ),
    "density": Definition(
        "density", "higher", 3,
        f"over samples, the mean number of real images with the sample in {BALLS} their 5th nearest, over 5",
        NAEEM,
    ),
    "coverage": Definition(
        "coverage", "higher", 3, f"share of real images with a sample in {BALLS} their 5th nearest", NAEEM
    ),
    "cmmd": Definition(
        "CMMD", "lower", 3, "1000 · biased MMD² of unit features, kernel exp(−|x − y|²/200); published for CLIP's",
        "Jayasumana et al. 2024, arXiv 2401.09603",
    ),
    "vendi": Definition(
        "Vendi score", "higher", 2, "exp of the entropy of the eigenvalues of K/N, K the cosines between features",
        "Friedman & Dieng 2023, arXiv 2210.02410",
    ),
    "class_diversity": Definition(
        "diversity within a class", "", 4,
        "mean over classes of the LPIPS-style distance between successive samples of the class: unit channel vectors, "
        "maps of at most 8×8, five depths, no learned weights; noise raises it too: to be read beside `details.real`",
        "the distance: Zhang et al. 2018, arXiv 1801.03924, eq. 1 with w = 1",
    ),
    "memorisation": Definition(
        "memorisation", "lower", 3,
        "share of samples nearer to their nearest training image than that image is to its own nearest; "
        "of fresh images of the same law as many as of training images held against the others (`details.real`)",
        "one minus the authenticity of Alaa et al. 2022, arXiv 2102.08921",
    ),
    "fd": Definition("FD", "lower", 2, FRECHET, STEIN),
    "fd_infinity": Definition("FD∞", "lower", 2, INFINITY, CHONG),
    "class_fd": Definition("per-class FD", "lower", 2, BY_CLASS, MIYATO),
    "kd": Definition("KD", "lower", 4, KERNEL, STEIN),
}  # fmt: skip
OF_OTHER_FEATURES = {
    "fid": "fd",
    "fid_infinity": "fd_infinity",
    "class_fid": "class_fd",
    "kid": "kd",
    "kid_std": "kd_std",
}
MEASURED = tuple(name for name in DEFINITIONS if name not in OF_OTHER_FEATURES.values())  # what a measurement has
SPREADS = {"kid": "kid_std", "kd": "kd_std", "inception_score": "inception_score_std"}


def base(name: str) -> str:
    """Return a metric's name without the features that it carries."""
    return name.partition(":")[0]


def with_features(name: str, features: str) -> str:
    """Return what a metric is called when it is taken from features of another network than the measurement's."""
    return f"{OF_OTHER_FEATURES.get(name, name)}:{features}"


def spread_of(name: str) -> str:
    """Return the name of a metric's spread; "" where it has none."""
    spread, (_, colon, features) = SPREADS.get(base(name), ""), name.partition(":")
    return spread and f"{spread}{colon}{features}"


def definition_of(name: str) -> Definition:
    """Return a metric's definition, its title with the features that its name carries.

    An unknown metric is its own title, has no direction and four decimals.
    """
    definition, (_, _, features) = DEFINITIONS.get(base(name)), name.partition(":")
    if definition is None:
        return Definition(name, "", 4, "", "")
    return replace(definition, title=f"{definition.title} ({features})") if features else definition


def markdown() -> str:
    """Return the page of documentation that lists all metrics; run this file as a module, and it prints it."""
    rows = [
        "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |\n"
        for name, metric in DEFINITIONS.items()
        for words in [
            (f"`{name}`", f"{metric.title} {ARROWS[metric.direction]}".strip(), metric.definition, metric.source)
        ]
    ]
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    print(markdown(), end="")
