"""The rooms of the house, drawn from the code: docs/pictures/rooms.svg, which CONTRIBUTING.md shows.

An arrow from A to B: a module of A imports one of B, at once or later. What follows from other arrows is left out:
A → C is not drawn where A → B → C is. Rooms are as high as the longest way down from them.

Usage: python docs/draw_rooms.py [FILE]
"""

import ast
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from support.imports import arrows, circles, imports, sources, within  # noqa: E402

PICTURE = ROOT / "docs" / "pictures" / "rooms.svg"
GROUND = "ground"
COLUMNS = {
    "report": 0, "report.sign": 0, "report.rendering": 0, "report.rivals": 0, "report.figures": 0, "report.analysis": 0,
    "report.reading": 0,
    "cli": 1, "commands": 1, "planning": 1, "store": 1, "config": 1, GROUND: 1,
    "slurm": 2, "launchers": 2, "jobs": 2, "measure": 2, "engine": 2, "networks": 2, "data": 2, "method": 3,
}  # fmt: skip
WIDTH, HEIGHT = 2.9, 0.68  # of a box
APART = 3.7  # from column to column; from level to level it is 1
COMPUTES, PLAIN = "#fde8d0", "#e4ecf7"


def room_of(module: str) -> str:
    """Return the folder below harness/ (of the report: the folder in it) in which a module lies."""
    if module == "harness.report.second_process":  # it imports nothing of the package
        return GROUND
    folders = module.split(".")[1:-1]
    if folders:
        return ".".join(folders[: 2 if folders[0] == "report" else 1])
    return "cli" if module == "harness.cli" else GROUND


def graph_of_rooms(modules: dict[str, str]) -> dict[str, set[str]]:
    """Return room → the rooms of which its modules import something."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module, imported in arrows(modules).items():
        graph[room_of(module)] |= {room_of(name) for name in imported} - {room_of(module)}
    return dict(graph)


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """Return how many arrows the longest way down from each room has."""
    height: dict[str, int] = {}

    def visit(room: str) -> int:
        if room not in height:
            height[room] = 1 + max((visit(below) for below in graph[room]), default=-1)
        return height[room]

    for room in graph:
        visit(room)
    return height


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the arrows that do not follow from others."""

    def beyond(room: str) -> set[str]:
        return graph[room].union(*(beyond(below) for below in graph[room]))

    return {room: below - set().union(*(beyond(other) for other in below)) for room, below in graph.items()}


def sentence(room: str, modules: dict[str, str]) -> str:
    """Return the first sentence of what a room says of itself."""
    if room == GROUND:
        names = sorted(module.rpartition(".")[2] for module in arrows(modules) if room_of(module) == GROUND)
        return ", ".join(names)
    text = ast.get_docstring(ast.parse(modules[f"harness.{room}"])) or ""
    return text.partition(". ")[0].rstrip(".")


def loads_torch(room: str, modules: dict[str, str]) -> bool:
    """Does any module of a room import torch before a function is called?"""
    members = [module for module in arrows(modules) if room_of(module) == room]
    return any(within(name, ("torch",)) for module in members for name in imports(module, modules, at_import_time=True))


def draw(modules: dict[str, str], path: Path) -> None:
    """Write the picture as SVG; exits with a message where rooms import each other."""
    graph = graph_of_rooms(modules)
    if around := circles(graph):
        sys.exit(f"rooms import each other: {around}")
    height = levels(graph)
    figure = Figure(figsize=(11, 8))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, 3 * APART + WIDTH + 0.1), ylim=(-0.1, max(height.values()) + HEIGHT + 0.1))
    axes.axis("off")
    corner = {room: (APART * COLUMNS[room], float(height[room])) for room in graph}
    for room, (x, y) in corner.items():
        colour = COMPUTES if loads_torch(room, modules) else PLAIN
        box = FancyBboxPatch((x, y), WIDTH, HEIGHT, "round,pad=0,rounding_size=0.08", fc=colour, ec="#556", lw=0.8)
        axes.add_patch(box)
        axes.text(x + WIDTH / 2, y + HEIGHT - 0.06, room, ha="center", va="top", fontsize=10, weight="bold")
        words = textwrap.shorten(sentence(room, modules), 100, placeholder=" …")
        axes.text(x + WIDTH / 2, y + 0.06, textwrap.fill(words, 46), ha="center", va="bottom", fontsize=6.5)
    for room, below in reduced(graph).items():
        for other in sorted(below):
            (x, y), (to_x, to_y) = corner[room], corner[other]
            aside = ((to_x > x) - (to_x < x)) * (WIDTH / 2 - 0.1)
            start, end = (x + WIDTH / 2 + aside, y), (to_x + WIDTH / 2 - aside, to_y + HEIGHT)
            axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#556", "lw": 0.9})
    with matplotlib.rc_context({"svg.hashsalt": "rooms", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(sources(), Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
