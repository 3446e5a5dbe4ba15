"""What each metric is, from `metric_definitions.yaml`: for the measurements, the report and the documentation, without
torch.

A metric's name is its protocol: what the name settles stands there; data, features and counts are said beside the
numbers. Behind a colon the name carries the features that the number was taken from, where they are not those of its
measurement or where the metric was published for others: `cmmd:classifier`, `fd:vit_small_patch14_dinov2.lvd142m`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal

from harness.files import read_yaml
from harness.plugins import Registry

ARROWS = {"lower": "↓", "higher": "↑", "": ""}
FILE = read_yaml(Path(__file__).with_suffix(".yaml"))


@dataclass(frozen=True)
class Definition:
    """One metric.

    direction: which is better, "" for neither. decimals: with how many it is printed. definition: what is computed, in
    a sentence. source: where it was published. least, most: between which it lies, where there is such a limit.
    """

    title: str
    direction: Literal["lower", "higher", ""] = ""
    decimals: int = 4
    definition: str = ""
    source: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def heading(self) -> str:
        """The title with an arrow for the direction that is better."""
        return f"{self.title} {ARROWS[self.direction]}".strip()


@dataclass(frozen=True)
class Metric:
    """An entry of the registry.

    compute: given `measure.compare.Measured`, its value, or in words why there is none; or, where metrics share most of
    their work, the values of all these by name, and details for the record. "module:name" is loaded when it is called.
    None: it is no measurement's own. everywhere: called in each of the processes that share a measurement, else in one.
    """

    definition: Definition
    compute: Callable[[Any], Any] | str | None
    everywhere: bool = False

    def __call__(self, measured: Any) -> Any:
        """Return what `compute` does."""
        assert self.compute is not None, self.definition.title
        compute: Callable[[Any], Any] = resolve_name(self.compute) if isinstance(self.compute, str) else self.compute
        return compute(measured)


DEFINITIONS = {name: Definition(**definition) for name, definition in FILE["definitions"].items()}
OF_OTHER_FEATURES: dict[str, str] = FILE["of_other_features"]
SPREADS: dict[str, str] = FILE["spreads"]
OF_HELD_OUT: tuple[str, ...] = tuple(FILE["of_held_out"])
ROUNDING = 1e-3
LIMITS = {name: (metric.least, metric.most) for name, metric in DEFINITIONS.items()} | {
    name: (0, None) for name in SPREADS.values()
}
# Functions of `measure/`, and what each computes.
COMPUTED = {
    "compare:distances": ("fid", "sfid", "inception_score"),
    "compare:infinity": ("fid_infinity",),
    "compare:class_fid": ("class_fid",),
    "compare:diverse": ("vendi", "class_diversity"),
    "compare:kid": ("kid",),
    "compare:by_pairs": ("precision", "recall", "density", "coverage", "cmmd", "memorisation"),
    "overfitting:copied": ("copying",),
    "overfitting:denoising": ("held_out_loss", "training_loss", "loss_gap"),
}
BY_PAIRS = COMPUTED["compare:by_pairs"]  # need each image's features
OF_NETWORK = COMPUTED["overfitting:denoising"]  # need the network that drew the samples, and no features
EVERYWHERE = (*BY_PAIRS, "copying")  # in all processes together
_COMPUTE = {name: f"harness.measure.{function}" for function, names in COMPUTED.items() for name in names}
METRICS: Registry[Metric] = Registry(
    "metrics", "metric",
    {name: Metric(definition, _COMPUTE.get(name), name in EVERYWHERE) for name, definition in DEFINITIONS.items()},
)  # fmt: skip
_REMEMBERED: dict[str, Definition] = {}  # metrics of plug-ins that measured a stored study
# What every measurement has; `OF_HELD_OUT` where it was asked for them.
MEASURED = tuple(name for name in DEFINITIONS if name not in {*OF_OTHER_FEATURES.values(), *OF_HELD_OUT})


def base(name: str) -> str:
    """Return a metric's name without the features that it carries."""
    return name.partition(":")[0]


def with_features(name: str, features: str) -> str:
    """Return what a metric is called when it is taken from features of another network than the measurement's."""
    return f"{OF_OTHER_FEATURES.get(name, name)}:{features}"


def spread_of(name: str) -> str:
    """Return the name of a metric's spread; "" where it has none."""
    metric, colon, features = name.partition(":")
    return f"{SPREADS[metric]}{colon}{features}" if metric in SPREADS else ""


def definition_of(name: str) -> Definition:
    """Return a metric's definition, its title with the features that its name carries.

    An unknown metric is its own title, has no direction and four decimals.
    """
    metric, _, features = name.partition(":")
    if metric not in DEFINITIONS:
        return _REMEMBERED.get(name) or Definition(name)
    definition = DEFINITIONS[metric]
    return replace(definition, title=f"{definition.title} ({features})") if features else definition


def remember(name: str, definition: Definition) -> None:
    """Let `definition_of` know what a study says of a metric that is not built in."""
    if name not in DEFINITIONS:
        _REMEMBERED[name] = definition


def beyond(name: str, value: float) -> str:
    """Say what is legal where a value is none that a metric, or the spread of one, can have; "" where it can.

    Differences of large sums that should be 0 are a little less: up to `ROUNDING` is no fault.
    """
    metric = base(name)
    least, most = LIMITS.get(metric, (None, None))
    too_low, too_high = (least is not None and value < least - ROUNDING), (most is not None and value > most + ROUNDING)
    if not (too_low or too_high):
        return ""
    return f"; {metric} is from {least:g} to {most:g}" if most is not None else f"; {metric} is {least:g} or more"


def markdown() -> str:
    """Return the page of documentation that lists all metrics; run this file as a module, and it prints it."""
    page: str = FILE["introduction"]
    for name, metric in DEFINITIONS.items():
        cells = (f"`{name}`", metric.heading, metric.definition, metric.source)
        page += "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    return page


if __name__ == "__main__":
    print(markdown(), end="")
