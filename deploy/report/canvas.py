"""Pictures in the report's colours: PNG files, and SVG that takes the page's colours, light or dark."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.results.plots import new_figure, save_figure
from host.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# By name as the page's style has them, which also says what they are in the dark.
PALETTE = {
    "ink": "#1c2430",
    "muted": "#66707f",
    "line": "#d8dde5",
    "accent": "#1f6f8b",
    "mid": "#6aa9bf",
    "pale": "#b9d8e2",
    "bad": "#b4412f",
}
INK, MUTED, LINE, ACCENT, MID, PALE, BAD = PALETTE.values()

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.03,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "axes.formatter.useoffset": False,
}
MAX_LABEL = 32

_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_NAMESPACES = re.compile(r' xmlns(:\w+)?="[^"]*"')
_GROUP_IDS = re.compile(r'(<g) id="[^"]*"')
_STYLES = re.compile(r"\s*<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_FONTS = re.compile(r" font-family: [^;\"]*;?")
_SIZE = re.compile(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"')


@dataclass(frozen=True)
class Picture:
    """Something to draw, of so many inches; `alt` tells what it shows to whoever does not see it."""

    name: str
    title: str
    alt: str
    draw: Callable[["Figure"], None]
    width: float = 5.4
    height: float = 3.1


def to_svg(picture: Picture) -> str:
    """An `<svg>` element that scales, with the page's font and colours; raises ConfigError."""
    with style(f"midge-{picture.name}"):
        figure = new_figure(picture.width, picture.height)
        picture.draw(figure)
        written = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    return _inline(written.getvalue(), picture)


def to_png(picture: Picture, path: Path) -> None:
    """A picture on white; raises DataError, ConfigError."""
    with style(f"midge-{picture.name}"):
        figure = new_figure(picture.width, picture.height)
        picture.draw(figure)
        save_figure(figure, path)


def label(text: str) -> str:
    """A name that leaves room for what it names."""
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"


def _inline(document: str, picture: Picture) -> str:
    """Take a document's frame away, and what two of them in one page would have in common."""
    svg = _GROUP_IDS.sub(r"\1", _NAMESPACES.sub("", _HEAD.sub("", document)))
    svg = _FONTS.sub("", _STYLES.sub("", svg))
    opening = f'<svg class="picture" role="img" aria-label="{escape(picture.alt)}"'
    svg = _SIZE.sub(lambda _: opening, svg, count=1)
    for name, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()


@contextmanager
def style(salt: str = "midge") -> Iterator[None]:
    """Draw with our colours, text as it stands, and signs that the font has not left to the browser."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  an extra, and slow to import
    except ModuleNotFoundError:
        raise ConfigError("drawing takes matplotlib: pip install 'midge[operator]'") from None
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        yield
