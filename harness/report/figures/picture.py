"""A figure as inline SVG and as files: themed colours, ids of its own, no date, none of the reader's settings.

Bytes depend on the numbers alone.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.colors
import matplotlib.style
from matplotlib.figure import Figure

from harness.files import write_bytes
from harness.report import TEMPLATES
from harness.report.analysis.text import slug
from harness.report.figures.marks import equip

PRINTED = {  # the colours of style.css, on paper
    "ink": "#000000", "muted": "#444444", "rule": "#bbbbbb", "paper": "#ffffff", "arm-1": "#0a6aa8", "arm-2": "#b5560a",
    "arm-3": "#0b7a5b", "arm-4": "#a23c7a", "arm-5": "#6a5fae", "arm-6": "#6f6f6f",
}  # fmt: skip
# In place of the colours that the page's theme decides; no figure has these by chance.
DRAWN = {name: f"#0404{index:02}" for index, name in enumerate(PRINTED, start=1)}
VARIABLES = {colour: f"var(--{name})" for name, colour in DRAWN.items()}
# What would say when and with what a figure was made.
LEFT_OUT = {"svg": ("Creator", "Date", "Format", "Type"), "pdf": ("CreationDate", "Creator", "Producer")}
LINK = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Picture:
    """A figure: its kind ("dots", "heat", "gain" …), words for those who cannot see it, and what is said of it.

    name: of its file beside the page, unique on the page. draw: is called while the page's settings hold. caption:
    where the page's template has none for its kind. title: where it is folded away.
    """

    kind: str
    name: str
    alt: str
    draw: Callable[[], Figure]
    caption: str = ""
    title: str = ""

    @property
    def file(self) -> str:
        """Where it lies as a file of its own, seen from the page."""
        return f"figures/{slug(self.name)}.svg"

    @cached_property
    def svg(self) -> str:
        """The figure as an `<svg>` element for HTML, with the page's colours."""
        with page_look(DRAWN, self.name):
            return inline_svg(self.draw(), self.alt)

    def write(self, target: Path, pdf: bool) -> None:
        """Write it beside the page, and as PDF too or else no longer, for that would show older results."""
        path = target / self.file
        write_bytes(path, standalone(self.svg).encode())
        if pdf:
            with page_look(PRINTED):
                write_bytes(path.with_suffix(".pdf"), _saved(self.draw(), "pdf"))
        else:
            path.with_suffix(".pdf").unlink(missing_ok=True)


@contextmanager
def page_look(colours: Mapping[str, str], salt: str = "report") -> Iterator[None]:
    """Draw with the page's settings, none of the reader's, and our names of colours.

    salt: what the ids of an SVG are made of beside its content, so that figures of one page share none.
    """
    registry = matplotlib.colors.get_named_colors_mapping()
    named = {f"report:{name}": colour for name, colour in colours.items()}
    registry.update(named)
    try:
        with matplotlib.style.context([TEMPLATES / "figure.mplstyle", {"svg.hashsalt": salt}], after_reset=True):
            yield
    finally:
        for name in named:
            del registry[name]


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # letters that our font lacks are drawn by the reader's
        figure.savefig(buffer, format=kind, metadata=dict.fromkeys(LEFT_OUT[kind]))
    return buffer.getvalue()


def inline_svg(figure: Figure, alt: str) -> str:
    """Return a figure as an `<svg>` element for HTML; alt: what it shows, for those who cannot see it."""
    text = _saved(figure, "svg").decode().replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    used = set(re.findall(r'#([^")]+)', text))
    root = ElementTree.fromstring(text)  # noqa: S314 (matplotlib wrote it a moment ago)
    linked = equip(root)
    root.remove(root.findall("defs")[0])  # its rules are written for `*` and would reach the whole page
    for element in root.iter():
        element.text, element.tail = (element.text or "").strip() or None, None
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        if LINK in element.attrib:
            element.set("href", element.attrib.pop(LINK))
        if "style" in element.attrib:
            element.set("style", _themed(element.attrib["style"]))
    role = "group" if linked else "img"  # what is an image has no links inside
    drawn = ElementTree.Element("svg", {"viewBox": root.attrib["viewBox"], "role": role, "aria-label": alt})
    drawn.extend(root)
    return ElementTree.tostring(drawn, encoding="unicode")


def _themed(style: str) -> str:
    """Put CSS variables for colours, and leave the choice of font to the page."""
    style = re.sub(r"font-family:[^;]*;?\s*", "", style)
    return re.sub(r"#[0-9a-f]{6}", lambda match: VARIABLES.get(match[0], match[0]), style)


def standalone(svg: str) -> str:
    """Return an inline SVG as a file of its own: in the colours of print, and with a font."""
    printed = re.sub(r"var\(--([a-z0-9-]+)\)", lambda match: PRINTED[match[1]], svg)
    printed = re.sub(
        r' href="#runs-[^"]*"| tabindex="-1"| (?:data|aria)-(?:series|key|hidden)="[^"]*"', "", printed
    )  # there is no page to lead through
    space = '<svg xmlns="http://www.w3.org/2000/svg" font-family="DejaVu Sans, Verdana, sans-serif"'
    return printed.replace("<svg", space, 1) + "\n"
