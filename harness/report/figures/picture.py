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
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.files import write_bytes

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "pdf.fonttype": 42,  # TrueType, which publishers take and editors can edit
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.parse_math": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}

NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
PRINTED = {  # the colours of style.css, on paper
    "ink": "#000000", "muted": "#444444", "rule": "#bbbbbb", "paper": "#ffffff", "arm-1": "#0a6aa8", "arm-2": "#b5560a",
    "arm-3": "#0b7a5b", "arm-4": "#a23c7a", "arm-5": "#6a5fae", "arm-6": "#6f6f6f",
}  # fmt: skip
# In place of the colours that the page's theme decides; no figure has these by chance.
DRAWN = {"ink": "#010101", "muted": "#020202", "rule": "#030303", "paper": "#050505"} | {
    f"arm-{index}": f"#04040{index}" for index in range(1, 7)
}
VARIABLES = {colour: f"var(--{name})" for name, colour in DRAWN.items()}
REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class Picture:
    """A figure: its kind ("dots", "heat", "chart" …), SVG for the page, words for those who cannot see it.

    name: of its file beside the page, and of its ids in it.
    """

    kind: str
    name: str
    svg: str
    alt: str
    draw: Callable[[], Figure]

    @property
    def file(self) -> str:
        """Where it lies as a file of its own, seen from the page."""
        return f"figures/{self.name}.svg"

    def write(self, target: Path, pdf: bool) -> None:
        """Write it beside the page, and as PDF too or else no longer, for that would show older results."""
        path = target / self.file
        write_bytes(path, standalone(self.svg).encode())
        if pdf:
            with page_look(PRINTED):
                write_bytes(path.with_suffix(".pdf"), standalone_pdf(self.draw()))
        else:
            path.with_suffix(".pdf").unlink(missing_ok=True)


@dataclass(frozen=True)
class Chart:
    """A picture beneath a table: its title, what it shows, and either a figure or markup of images."""

    title: str
    caption: str
    picture: Picture | None = None
    images: str = ""


def painted(kind: str, name: str, alt: str, draw: Callable[[], Figure]) -> Picture:
    """Draw a figure with the page's settings and none of the reader's; name: unique on the page."""
    with page_look(DRAWN):
        return Picture(kind, name, inline_svg(draw(), f"figure-{name}", alt, VARIABLES), alt, draw)


@contextmanager
def page_look(colours: Mapping[str, str]) -> Iterator[None]:
    """Draw with the page's settings, none of the reader's, and our names of colours."""
    registry = matplotlib.colors.get_named_colors_mapping()
    named = {f"report:{name}": colour for name, colour in colours.items()}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        registry.update(named)
        try:
            yield
        finally:
            for name in named:
                del registry[name]


def inline_svg(figure: Figure, prefix: str, alt: str, variables: Mapping[str, str]) -> str:
    """Return a figure as an `<svg>` element for HTML.

    prefix: put before every id, so that figures of one page cannot share any. alt: what the picture shows, for
    those who cannot see it. variables: colour as drawn ("#010101") → CSS value ("var(--ink)").
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # letters that our font lacks are drawn by the reader's
        FigureCanvasSVG(figure).print_svg(buffer, metadata=NO_METADATA)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 (matplotlib wrote it a moment ago)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.text, element.tail = (element.text or "").strip() or None, None
        for name in [name for name in element.attrib if _local(name) != name]:
            element.set(_local(name), element.attrib.pop(name))
    for defs in [defs for defs in root.findall("defs") if defs.find("style") is not None]:
        root.remove(defs)  # its rules are written for `*` and would reach the whole page
    _own_ids(root, prefix)
    for element in root.iter():
        if "style" in element.attrib:
            element.set("style", _themed(element.attrib["style"], variables))
    return _wrapped(root, alt)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _own_ids(root: ElementTree.Element, prefix: str) -> None:
    """Drop the ids that nothing points to, and put the prefix before the others."""
    used = {value[1:] for element in root.iter() if (value := element.get("href", "")).startswith("#")}
    used |= {name for element in root.iter() for value in element.attrib.values() for name in REFERENCE.findall(value)}
    for element in root.iter():
        if (own := element.attrib.pop("id", None)) in used:
            element.set("id", f"{prefix}-{own}")
        if element.get("href", "").startswith("#"):
            element.set("href", f"#{prefix}-{element.attrib['href'][1:]}")
        for name, value in element.attrib.items():
            element.set(name, REFERENCE.sub(rf"url(#{prefix}-\1)", value))


def _themed(style: str, variables: Mapping[str, str]) -> str:
    """Put CSS variables for colours, and leave the choice of font to the page."""
    style = re.sub(r"font-family:[^;]*;?\s*", "", style)
    return re.sub(r"#[0-9a-f]{6}", lambda match: variables.get(match[0], match[0]), style)


def _wrapped(root: ElementTree.Element, alt: str) -> str:
    drawn = ElementTree.Element("svg", {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt})
    drawn.extend(root)
    return ElementTree.tostring(drawn, encoding="unicode")


def standalone_pdf(figure: Figure) -> bytes:
    """Return a figure as a PDF without a date."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf  # only --pdf needs it

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def standalone(svg: str) -> str:
    """Return an inline SVG as a file of its own: in the colours of print, and with a font."""
    printed = re.sub(r"var\(--([a-z0-9-]+)\)", lambda match: PRINTED[match[1]], svg)
    space = '<svg xmlns="http://www.w3.org/2000/svg" font-family="DejaVu Sans, Verdana, sans-serif"'
    return printed.replace("<svg", space, 1) + "\n"
