"""What each mark of a figure says and leads to, and which series it is of: written into the SVG that matplotlib draws.

Matplotlib gives an artist's id to its group in the SVG, and that id carries all of it there.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.legend import Legend

from harness.report.analysis.pivot import Pivot, PivotCell
from harness.report.analysis.text import (
    estimate,
    number,
    percent_change,
    runs_anchor,
    seed_anchor,
    signed_percent,
    state_words,
)

KINDS = MARKS, BARS, KEY = "marks", "bars", "key"  # how the ids begin


@dataclass(frozen=True)
class Mark:
    """What a mark says, and the place in the page that it leads to: the runs of a cell, or one of them."""

    anchor: str
    words: str


def cell_mark(pivot: Pivot, cell: PivotCell, words: str = "") -> Mark:
    """Return the mark of a cell's mean, with its change; words: where it stands for another number of the cell."""
    change = f", {percent_change(cell.change)}" if cell.change else ""
    value = f"{pivot.metric.title} {estimate(cell.ours, pivot.metric.decimals)}" if cell.ours else state_words(cell)
    seeds = f", n={len(cell.ours.seeds)}" if cell.ours else ""
    return Mark(runs_anchor(pivot, cell), f"{cell.name}: {words or value + seeds + change}")


def seed_mark(pivot: Pivot, cell: PivotCell, seed: int) -> Mark:
    """Return the mark of one seed, with its change against the same seed of the baseline."""
    base = cell.baseline.values.get(seed) if cell.baseline and cell.change else None
    change = (
        f", {signed_percent(100 * (cell.values[seed] / base - 1))} from seed {seed} of the baseline" if base else ""
    )
    value = f"{pivot.metric.title} {number(cell.values[seed], pivot.metric.decimals)}"
    return Mark(seed_anchor(pivot, cell, seed), f"{cell.name}, seed {seed}: {value}{change}")


def tag(artist: Artist, series: str, marks: Sequence[Mark] = (), kind: str = MARKS) -> None:
    """Say what each of an artist's marks is, one after the other, and that it goes when `series` is hidden."""
    parts = [series, *(part for mark in marks for part in (mark.anchor, mark.words))]
    artist.set_gid("|".join([kind, *(part.replace("|", "/") for part in parts)]))


def tag_legend(legend: Legend) -> None:
    """Say which series each entry of a legend stands for."""
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        for artist in filter(None, (handle, text)):
            tag(artist, text.get_text(), kind=KEY)


def equip(root: ElementTree.Element) -> bool:
    """Make links of the marks of an SVG, and of its legend one group for each series; tell whether there are any.

    One mark of a figure is a stop of the keyboard, from which the page's script goes on to the others.
    """
    groups = [(*_parts(element), element) for element in root.iter() if element.get("id", "").split("|")[0] in KINDS]
    first = True
    for kind, series, marks, group in groups:
        group.set("data-key" if kind == KEY else "data-series", series)
        for link in _linked(group, marks):
            link.attrib |= {} if first and kind == MARKS else {"tabindex": "-1"}
            link.attrib |= {"aria-hidden": "true"} if kind == BARS else {}
            first = first and kind != MARKS
    _join_keys(root)
    return bool(groups)


def _parts(element: ElementTree.Element) -> tuple[str, str, list[Mark]]:
    kind, series, *rest = element.attrib["id"].split("|")
    return kind, series, [Mark(anchor, words) for anchor, words in zip(rest[::2], rest[1::2], strict=True)]


def _linked(group: ElementTree.Element, marks: Sequence[Mark]) -> list[ElementTree.Element]:
    """Put a link around each mark of a group: its markers, or the lines and tiles that it has instead."""
    found = [(parent, place) for parent in group.iter() for place, child in enumerate(parent) if _is(child, "use")]
    found = found or [(group, place) for place, child in enumerate(group) if _is(child, "path")]
    if len(found) != len(marks):
        return []  # matplotlib left out what lies outside: no mark may get another's words
    links = []
    for (parent, place), mark in zip(found, marks, strict=True):
        if not mark.anchor:
            continue
        link = ElementTree.Element("a", {"href": f"#{mark.anchor}"})
        ElementTree.SubElement(link, "title").text = mark.words
        link.append(parent[place])
        parent[place] = link
        links.append(link)
    return links


def _is(element: ElementTree.Element, tag: str) -> bool:
    return element.tag.rpartition("}")[2] == tag


def _join_keys(root: ElementTree.Element) -> None:
    """Put the words of each entry of a legend into the group of its sign."""
    for legend in list(root.iter()):
        signs: dict[str, ElementTree.Element] = {}
        for part in [child for child in legend if "data-key" in child.attrib]:
            sign = signs.setdefault(part.attrib["data-key"], part)
            if sign is not part:
                legend.remove(part)
                del part.attrib["data-key"]
                sign.append(part)
