"""What figures share: colours, an arm's colour and marker on the whole page, and logarithmic axes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from harness.config.spec import canonical
from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import is_number

WIDTH, LINE = 5.0, 0.165  # inches: narrow, so that the letters are legible on a phone; the height of a line of text
# Names of colours. In the page each is a CSS variable, so that light and dark themes hold inside the figures.
INK, MUTED, RULE, PAGE = "report:ink", "report:muted", "report:rule", "report:paper"
ARM_COLOURS = tuple(f"report:arm-{index}" for index in range(1, 7))
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: dict[str, Any] = dict(
    zip(MARKERS, ("-", "-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2))), strict=True)
)
REFERENCE_LINE: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 3))}
LOGARITHMIC_FROM = 10.0  # largest over smallest value


@dataclass(frozen=True)
class ArmStyle:
    """How an arm is drawn: never by colour alone."""

    label: str
    colour: str = INK
    marker: str = "o"


@dataclass
class ArmStyles:
    """The colour and marker of each arm, chosen once for all figures of a page, in the order in which they appear."""

    places: dict[str, int] = field(default_factory=dict)

    def of(self, arms: Mapping[str, Sequence[PivotCell]]) -> dict[str, ArmStyle]:
        """Return the styles of the arms of one figure, by their labels there; baselines are in the ink's colour.

        An arm is known by its regulariser, or by its label where a figure tells apart what has one regulariser, and
        where a label stands for several.
        """
        keys = {label: "|".join(sorted({_known_by(cell) for cell in cells})) for label, cells in arms.items()}
        alike = Counter(keys.values())
        return {
            label: ArmStyle(label)
            if all(cell.is_baseline for cell in cells)
            else self._styled(label, keys[label] if alike[keys[label]] == 1 else label)
            for label, cells in arms.items()
        }

    def _styled(self, label: str, key: str) -> ArmStyle:
        place = self.places.setdefault(key, len(self.places))
        turn, colour = divmod(place, len(ARM_COLOURS))
        return ArmStyle(label, ARM_COLOURS[colour], MARKERS[(place + turn + 1) % len(MARKERS)])


def _known_by(cell: PivotCell) -> str:
    """A cell's regulariser as it is set, which networks of each depth share."""
    regularizer = cell.source.settings.regularizer
    return canonical(regularizer) if regularizer.loss != "none" else ""


def cell_styles(pivot: Pivot, styles: ArmStyles) -> dict[str, ArmStyle]:
    """Return the style of each cell of a table by its name: of its column where there are several, else its own."""
    several, axis = len(pivot.columns) > 1, pivot.table.file.columns
    groups: dict[str, list[PivotCell]] = {}
    labels: dict[str, str] = {}
    for cell in pivot.cells:
        column = f"{axis} {cell.column}" if is_number(cell.column) else cell.column
        labels[cell.name] = "baseline" if cell.is_baseline else column if several else cell.name
        groups.setdefault(labels[cell.name], []).append(cell)
    by_label = styles.of(groups)
    return {name: by_label[label] for name, label in labels.items()}


def wants_logarithm(values: Sequence[float]) -> bool:
    """Tell whether values span so much that their differences would be lost on a linear axis."""
    return min(values) > 0 and max(values) > LOGARITHMIC_FROM * min(values)


def logarithmic(axes: Axes, direction: Literal["x", "y"]) -> None:
    """Make one of the axes logarithmic, with few ticks in plain numbers."""
    axes.set(**{f"{direction}scale": "log"})
    axis = axes.xaxis if direction == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")
