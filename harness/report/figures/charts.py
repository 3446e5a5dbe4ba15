"""What the charts beneath a table share: one look, one legend, and the sign by which a cell is known in all of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import is_number
from harness.report.figures.table_figure import ARMS, INK, MARKERS, WIDTH, Picture, painted, plain_axes

HEIGHT, LINE, LEFT, RIGHT, BOTTOM, BETWEEN = 2.3, 0.165, 0.6, 0.1, 0.42, 0.6  # inches


@dataclass(frozen=True)
class Chart:
    """A picture beneath a table: its title, what it shows, and either a figure or markup of images."""

    title: str
    caption: str
    picture: Picture | None = None
    images: str = ""


@dataclass(frozen=True)
class Sign:
    """How a cell is drawn: never by colour alone."""

    label: str
    colour: str
    marker: str


def chart(title: str, name: str, alt: str, caption: str, draw: Callable[[], Figure]) -> Chart:
    """Return a figure as a chart, drawn with our settings and none of the reader's own; `name`: as `painted`."""
    return Chart(title, caption, painted("chart", name, alt, draw))


def panels(titles: Iterable[tuple[str, str]], lines: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels side by side with room above for a legend of `lines`; titles are (x, y) of each."""
    titles = list(titles)
    height = BOTTOM + HEIGHT + lines * LINE + 0.14
    width = (WIDTH - LEFT - RIGHT - (len(titles) - 1) * BETWEEN) / len(titles)
    figure = Figure(figsize=(WIDTH, height))
    made = []
    for index, (x, y) in enumerate(titles):
        left = LEFT + index * (width + BETWEEN)
        axes = figure.add_axes((left / WIDTH, BOTTOM / height, width / WIDTH, HEIGHT / height))
        axes.set_xlabel(x, color=INK)
        axes.set_ylabel(y, color=INK)
        plain_axes(axes, "both")
        made.append(axes)
    return figure, made


def legend(figure: Figure, panes: Iterable[Axes]) -> None:
    """Write the names of what the panels show above them, each once."""
    found = [axes.get_legend_handles_labels() for axes in panes]
    once = {label: handle for handles, labels in found for label, handle in zip(labels, handles, strict=True)}
    figure.legend(
        once.values(), once.keys(), loc="upper left", bbox_to_anchor=((LEFT - 0.05) / WIDTH, 1), frameon=False,
        labelcolor=INK, borderaxespad=0, borderpad=0,
    )  # fmt: skip


def signs(pivot: Pivot, cells: Iterable[PivotCell]) -> dict[str, Sign]:
    """Return cell name → sign: by column where a table has several, else by row; baselines are in the ink's colour."""
    by_column = len(pivot.columns) > 1
    found: dict[str, Sign] = {}
    groups: list[str] = []
    for cell in cells:
        if cell.is_baseline:
            found[cell.name] = Sign("baseline", INK, "o")
            continue
        numbered = f"{pivot.table.file.columns} {cell.column}" if is_number(cell.column) else cell.column
        group = numbered if by_column else cell.name
        if group not in groups:
            groups.append(group)
        index = groups.index(group)
        found[cell.name] = Sign(group, ARMS[index % len(ARMS)], MARKERS[(index + 1) % len(MARKERS)])
    return found
