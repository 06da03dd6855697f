"""A chart as the page takes it: a figure for plotly.js as plain data, what it shows in words, and its numbers as rows.

Plain, because a page over thousands of runs has no time for plotly's own objects: the tests have plotly check them.
Text and grid colours are left to the page, which sets them for its light and its dark theme.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from typing import Any

from kvbench.records.part import Estimate, Speedup
from kvbench.text import columns

# One colour, dash and marker per arm, the same in every chart of a page.


# Okabe and Ito's colours, which stay apart for colour-blind readers (https://jfly.uni-koeln.de/color/), without those
# that have less than 3:1 contrast on the white or on the dark page; the last three fill up in the same range.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A6761D", "#7B6FD0", "#5F8A99")
NEUTRAL = "#7F8790"
# The same hues on a dark page, where thin lines and small dots of the colours above are lost: 7:1 and more against it.
ON_DARK = {
    "#0072B2": "#56B4E9",
    "#D55E00": "#F58B4C",
    "#009E73": "#35C79C",
    "#CC79A7": "#E29CC4",
    "#A6761D": "#D2A24A",
    "#7B6FD0": "#A99FF0",
    "#5F8A99": "#8FBCCB",
    NEUTRAL: "#A0A9B4",
}
# Dash and marker repeat what the colour says, for a print in grey. Each list is run through by itself, and the numbers
# of their items have no common divisor: of 42 arms no two share colour and dash, colour and marker, or dash and marker.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = (
    *("circle", "square", "diamond", "triangle-up", "x", "cross", "star"),
    *("hexagon", "triangle-down", "pentagon", "hourglass"),
)

# Parts of memory, which are no arms: dark and light in turn, so that neighbours stay apart in grey too.
PARTS = {
    "weights": "#3B6EA8",
    "KV cache": "#E08A3C",
    "step peak": "#4F8F63",
    "allocator slack": "#A9B4C0",
    "device context": "#8064A8",
    "kernels": "#CF9CC2",
    "elsewhere": "#6F7882",
    "rest of the process": "#A9B4C0",
    "unexplained": "#C0392B",
}
WARNING = "#D55E00"

# A mode looks the same in every report.
OF_MODE = {"cached": 0, "nocache": 1, "generate": 2, "nocache_naive": 3, "generate_nocache": 4}


@dataclass(frozen=True)
class Look:
    """How one arm is drawn."""

    colour: str
    dash: str
    marker: str


@dataclass(frozen=True)
class Theme:
    """The colours of a page, as report.css has them: for pictures, which no stylesheet reaches."""

    page: str
    text: str
    line: str


LIGHT = Theme("#ffffff", "#1b1f24", "#dde1e6")
DARK = Theme("#14171c", "#e4e7eb", "#323842")
THEMES = {"light": LIGHT, "dark": DARK}


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look per arm name. The first arm of a mode gets its mode's, further ones what is free."""
    given: dict[str, int] = {}
    for name in names:
        if name not in given:
            own = OF_MODE.get(name.split(" ")[0])
            taken = set(given.values())
            free = (index for index in count() if index not in taken and index not in OF_MODE.values())
            given[name] = own if own is not None and own not in taken else next(free)
    return {name: _look(index) for name, index in given.items()}


def _look(index: int) -> Look:
    return Look(*(each[index % len(each)] for each in (COLOURS, DASHES, MARKERS)))


# Names cut to the room there is, such that what tells them apart stays.


LEAD = 4  # characters shown before the first one that differs
MOST_ROUNDS = 8  # of looking for the next difference; names that need more are numbered


def middle_cut(text: str, most: int) -> str:
    """The text without its middle where it is longer than `most`."""
    if len(text) <= most:
        return text
    end = most // 2
    return f"{text[: most - end - 1]}…{text[-end:]}"


def shortened(names: Sequence[str], most: int) -> tuple[str, ...]:
    """Every name in at most `most` characters; different names stay different.

    A name loses its middle. Where that makes two alike, their beginning is followed by the place at which they part.
    """
    found = {name: middle_cut(name, most) for name in names}
    for _ in range(MOST_ROUNDS):
        alike = _alike(found)
        for group in alike:
            parting = _parting(group)
            found |= {name: _window(name, parting, most) for name in group}
        if not alike:
            break
    for group in _alike(found):
        for number, name in enumerate(group, start=1):
            mark = f" #{number}"
            found[name] = f"{found[name][: most - len(mark)]}{mark}"
    return tuple(found[name] for name in names)


def _alike(found: dict[str, str]) -> list[list[str]]:
    counts = Counter(found.values())
    groups: dict[str, list[str]] = defaultdict(list)
    for name, short in found.items():
        if counts[short] > 1:
            groups[short].append(name)
    return list(groups.values())


def _parting(group: Sequence[str]) -> int:
    """How many characters all of a group begin with."""
    parted = (place for place, characters in enumerate(zip(*group, strict=False)) if len(set(characters)) > 1)
    return next(parted, min(map(len, group)))


def _window(name: str, parting: int, most: int) -> str:
    """The beginning of a name, and what stands around the place where it parts from another."""
    begin = max(0, parting - LEAD)
    head = min(begin, most // 3)
    if begin <= head:
        return f"{name[: most - 1]}…"
    room = most - head - 1
    rest = name[begin:]
    return f"{name[:head]}…{rest if len(rest) <= room else f'{rest[: room - 1]}…'}"


# The chart and the parts that figures are put together from.


CHART_HEIGHT_PX = 330
LABEL_CHARACTERS = 44
ROW_HEIGHT_PX = 58  # a name above its bar
AXES_HEIGHT_PX = 84  # what a chart needs besides its rows
LINE_CHARACTERS = 46  # of text that a phone has room for
FAINT = 0.5

Trace = dict[str, Any]
Triple = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Numbers:
    """What a chart shows as rows of text, the first cell naming its row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A figure for plotly.js, or None with the reason in `caption`, which says how to read it.

    `switched` is the axis ("xaxis", "yaxis") whose scale a reader may switch between linear and logarithmic.
    """

    key: str
    title: str
    caption: str
    figure: dict[str, Any] | None = None
    height_px: int = CHART_HEIGHT_PX
    numbers: Numbers | None = None
    switched: str = ""


def figure(traces: Sequence[Trace], **layout: Any) -> dict[str, Any]:
    """A figure as plain data, with what all charts share."""
    shared: dict[str, Any] = {
        "margin": {"l": 64, "r": 16, "t": 34, "b": 52},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
    }
    return {"data": list(traces), "layout": shared | layout}


def bars(look: Look | None = None, **own: Any) -> Trace:
    """Horizontal bars, in the colour of an arm."""
    marker = {"color": look.colour} if look else {}
    return {"type": "bar", "orientation": "h", "width": 0.36, **own, "marker": marker | own.get("marker", {})}


def line(look: Look, **own: Any) -> Trace:
    """A line in the colour and dash of an arm, or a marker where one point is all there is."""
    return {
        "type": "scatter",
        "mode": "lines" if len(own["x"]) > 1 else "markers",
        **own,
        "line": {"color": look.colour, "dash": look.dash, "width": 2.5} | own.get("line", {}),
        "marker": {"color": look.colour, "symbol": look.marker, "size": 8} | own.get("marker", {}),
    }


def dots(look: Look, *, hollow: bool = False, **own: Any) -> Trace:
    """Markers of an arm; hollow ones stand for what is not a warm, measured figure."""
    marker = {"color": look.colour, "symbol": f"{look.marker}-open" if hollow else look.marker, "size": 9}
    if hollow:
        marker["line"] = {"width": 1.5}
    return {"type": "scatter", "mode": "markers", **own, "marker": marker | own.get("marker", {})}


def rule(*, x: float | None = None, y: float | None = None, dash: str = "dot", **own: Any) -> dict[str, Any]:
    """A thin line across the whole chart at one place of one axis."""
    across = (
        {"xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
        if x is None
        else {"yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x}
    )
    edge = {"width": 1, "dash": dash, "color": NEUTRAL}
    return {"type": "line", "line": edge, "layer": "below", **across, **own}


def band(low: float, high: float, *, opacity: float = 0.18, **own: Any) -> dict[str, Any]:
    """A shade over the whole height of the chart."""
    shade = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": low, "x1": high, "line": {"width": 0}}
    return shade | {"fillcolor": NEUTRAL, "opacity": opacity, "layer": "below"} | own


def note(text: str, **own: Any) -> dict[str, Any]:
    """A word on the chart itself."""
    return {"text": text, "showarrow": False, "font": {"size": 12}, **own}


def interval(figures: Sequence[Triple]) -> dict[str, Any]:
    """Whiskers from (value, low, high) triples; none where an interval is unknown."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [0 if value is None or high is None else high - value for value, _, high in figures],
        "arrayminus": [0 if value is None or low is None else value - low for value, low, _ in figures],
        "thickness": 1.5,
        "width": 5,
    }


def scaled(values: Iterable[float], scale: float) -> list[float]:
    """Values in the unit of their axis, to five significant digits: a chart has fewer pixels, and a page has a size."""
    return [float(f"{value / scale:.5g}") for value in values]


def labels_of(names: Sequence[str]) -> list[str]:
    """Names for a chart, shortened to the room there is: different names stay different.

    Plotly reads a little HTML; names are not markup.
    """
    return [escape(short, quote=False) for short in shortened(names, LABEL_CHARACTERS)]


def label(text: str, among: Sequence[str] = ()) -> str:
    """One of the names `among`, or a text that stands alone, as `labels_of` has it."""
    every = (text, *among)
    return labels_of(every)[0]


def named_rows(names: Sequence[str], figures: Sequence[str] = ()) -> dict[str, Any]:
    """Layout of a chart with one row per name, the first at the top; row n is at position n.

    A name stands above its row, with its figure: beside it, it would leave a phone no room for the bars.
    """
    said = []
    for row, name in enumerate(names):
        shown = f"<b>{label(name, names)}</b>"
        if figures:
            together = columns(name) + columns(figures[row]) <= LINE_CHARACTERS
            shown += f"{'  ' if together else '<br>'}{escape(figures[row], quote=False)}"
        said.append(note(shown, xref="paper", x=0, xanchor="left", y=row - 0.2, yanchor="bottom", align="left"))
    return {
        "yaxis": {
            "range": [len(names) - 0.6, -0.78],
            "showticklabels": False,
            "showgrid": False,
            "zeroline": False,
            "ticks": "",
        },
        "annotations": said,
        "margin": {"l": 12, "r": 16, "t": 12, "b": 52},
    }


def rows_height(names: Sequence[str], figures: Sequence[str] = ()) -> int:
    """Pixels of a chart of such rows."""
    two_lines = any(
        columns(name) + columns(said) > LINE_CHARACTERS for name, said in zip(names, figures, strict=bool(figures))
    )
    return AXES_HEIGHT_PX + (ROW_HEIGHT_PX + 16 * two_lines) * len(names)


def stacked(count: int, gap: float = 0.1) -> list[list[float]]:
    """Domains of so many charts above each other, the first at the top."""
    height = (1 - gap * (count - 1)) / count
    tops = [1 - index * (height + gap) for index in range(count)]
    return [[max(0.0, top - height), top] for top in tops]


def count_ticks(counts: Iterable[float], most: int = 7) -> dict[str, Any]:
    """A logarithmic axis with its ticks at round counts of tokens or sequences that were measured."""
    known = sorted(set(counts))
    kept: list[float] = []
    room = math.log(known[-1] / known[0]) / most if len(known) > 1 else 0.0
    for value in known:
        if not kept or math.log(value / kept[-1]) >= room:
            kept.append(value)
    return {"type": "log", "tickvals": kept, "ticktext": [f"{value:,.0f}" for value in kept]}


def log_axis(low: float, high: float, most: int = 8) -> dict[str, Any]:
    """A logarithmic axis that shows `low` to `high`, with whole numbers at its ticks: 1, 2, 5, or powers of ten.

    Plotly's own ticks between powers of ten are bare digits, which read as another unit.
    """
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**power for power in exponents for digit in digits]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= most:
            break
    ticks = ticks[:: -(-len(ticks) // most)] if ticks else [low, high]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": [float(f"{tick:.3g}") for tick in ticks],
        "ticktext": [f"{float(f'{tick:.3g}'):,.12g}" for tick in ticks],
    }


def figures_of(estimate: Estimate | Speedup, scale: float = 1.0) -> Triple:
    """Value and interval, in the unit of an axis."""
    value, low, high = (
        None if each is None else each / scale for each in (estimate.value, estimate.ci_low, estimate.ci_high)
    )
    return value, low, high
