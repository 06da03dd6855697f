"""A chart as an SVG that needs no script: for print, and for a reader who has turned scripts off.

It draws what figures of this package are made of, scatter traces and horizontal bars, from the same data as plotly.js.
Lines and dots are thinned: beside a page of figures, an SVG must stay small.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from kvbench.report.charts.figures import NEUTRAL, Chart, log_axis
from kvbench.report.charts.series import evenly
from kvbench.text import columns, printable

WIDTH_PX = 640
MOST_POINTS = 120  # of one line or one cloud of dots
CHARACTER_PX = 6.2  # of a letter at FONT_PX, on average
FONT_PX = 12
MARGINS = {"l": 58, "r": 16, "b": 46}
LEGEND_ROW_PX = 18
MOST_LABEL_PX = 260  # of the names beside bars
DASHES = {"dash": "8 4", "dot": "2 3", "dashdot": "8 3 2 3", "longdash": "12 4", "longdashdot": "12 3 2 3"}
GRID = 'stroke="currentColor" stroke-opacity=".16"'
TAG = re.compile(r"<(/?b|br)>")

Figure = Mapping[str, Any]


def still(chart: Chart, width_px: int = WIDTH_PX) -> str:
    """The SVG of a chart with a figure; colours of text and grid follow the page's."""
    assert chart.figure is not None
    return "".join(_Drawing(chart, width_px).parts())


@dataclass(frozen=True)
class _Scale:
    """One axis: from a value to a pixel, and where its ticks are."""

    low: float  # as exponents where it is logarithmic
    high: float
    begin_px: float
    end_px: float
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]
    title: str
    grid: bool

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.at(math.log10(value) if self.logarithmic else value)

    def at(self, place: float) -> float:
        """The pixel of a place as plotly's annotations give it: on a logarithmic axis an exponent."""
        span = (self.high - self.low) or 1.0
        return self.begin_px + (place - self.low) / span * (self.end_px - self.begin_px)

    def shows(self, value: float | None) -> bool:
        """Whether a value can be drawn, give or take the size of a marker."""
        if value is None or (self.logarithmic and value <= 0):
            return False
        low, high = sorted((self.begin_px, self.end_px))
        return low - 1 <= self(value) <= high + 1


class _Drawing:
    def __init__(self, chart: Chart, width_px: int) -> None:
        assert chart.figure is not None
        self.chart = chart
        self.figure: Figure = chart.figure
        self.layout: Figure = chart.figure["layout"]
        self.width, self.height = width_px, chart.height_px
        self.bars = list(_stacked_bars(self.figure))
        self.legend = list(_legend(self.figure, width_px - 2 * MARGINS["r"]))
        rows = 1 + max((row for row, *_ in self.legend), default=-1)
        below = self.layout["legend"].get("yanchor") == "bottom" and self.layout["legend"].get("yref") == "container"
        self.top = 12 + (0 if below else rows * LEGEND_ROW_PX)
        self.bottom = self.height - MARGINS["b"] - (rows * LEGEND_ROW_PX if below else 0)
        self.legend_y = self.height - rows * LEGEND_ROW_PX if below else 4
        self.left, self.right = self._left(), width_px - MARGINS["r"]
        self.scales = {name: self._scale(name) for name in self._axes()}

    def parts(self) -> Iterator[str]:
        """The elements of the SVG, from the back to the front."""
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" class="still" role="img"'
            f' aria-label="{escape(printable(self.chart.title))}" font-size="{FONT_PX}" fill="currentColor">'
        )
        for name, scale in self.scales.items():
            yield from self._axis(name, scale)
        for shape in self.layout.get("shapes", ()):
            yield self._shape(shape)
        for trace, base, ends in self.bars:
            yield from self._bars(trace, base, ends)
        for trace in self.figure["data"]:
            if trace["type"] == "scatter":
                yield from self._scatter(trace)
        for note in self.layout.get("annotations", ()):
            yield self._note(note)
        for row, x, name, trace in self.legend:
            yield self._entry(trace, name, MARGINS["r"] + x, self.legend_y + row * LEGEND_ROW_PX + 9)
        yield "</svg>"

    # Axes.

    def _axes(self) -> list[str]:
        used = [(_axis_name("x", trace), _axis_name("y", trace)) for trace in self.figure["data"]]
        return list(dict.fromkeys(name for pair in used for name in pair))

    def _left(self) -> float:
        axis = self.layout.get("yaxis", {})
        if axis.get("showticklabels") is False:
            return 14
        longest = max((columns(text) for text in axis.get("ticktext", ())), default=0)
        return min(MOST_LABEL_PX, max(MARGINS["l"], longest * CHARACTER_PX + 10))

    def _scale(self, name: str) -> _Scale:
        axis: Figure = self.layout.get(name, {})
        logarithmic = axis.get("type") == "log"
        low, high = axis["range"] if "range" in axis else self._reach(name, axis, logarithmic=logarithmic)
        begin, end = axis.get("domain", (0, 1))
        if name.startswith("x"):
            pixels = [self.left + share * (self.right - self.left) for share in (begin, end)]
        else:
            pixels = [self.bottom - share * (self.bottom - self.top) for share in (begin, end)]
        ticks = () if axis.get("showticklabels") is False else tuple(_ticks(axis, low, high, logarithmic=logarithmic))
        title = (axis.get("title") or {}).get("text", "")
        return _Scale(low, high, pixels[0], pixels[1], logarithmic, ticks, title, axis.get("showgrid", True))

    def _reach(self, name: str, axis: Figure, *, logarithmic: bool) -> tuple[float, float]:
        """What the data span, with room around markers."""
        side = name[0]
        values = [
            value
            for trace in self.figure["data"]
            if trace["type"] == "scatter" and _axis_name(side, trace) == name
            for value in _spans(trace, side)
        ]
        if side == "x":
            values += [each for trace, _, ends in self.bars if _axis_name("x", trace) == name for each in ends]
            values += [each for trace, _, _ in self.bars for each in _spans(trace, "x") if "error_x" in trace]
            values += [0.0] if self.bars else []
        values = [value for value in values if not logarithmic or value > 0]
        if not values:
            return 0.0, 1.0
        low, high = min(values), max(values)
        if logarithmic:
            return math.log10(low) - 0.05, math.log10(high) + 0.05
        room = 0.05 * (high - low) or 0.5
        low = (
            min(low, 0.0) if axis.get("rangemode") == "tozero" and low >= 0 else low - room * (low < 0 or not self.bars)
        )
        return low, high + room

    def _axis(self, name: str, scale: _Scale) -> Iterator[str]:
        across = [each for key, each in self.scales.items() if key[0] != name[0]]
        if name.startswith("x"):
            foot = self.bottom
            lines = "".join(
                f"M{scale(at):.0f} {min(other.end_px for other in across):.0f}V{foot:.0f}" for at, _ in scale.ticks
            )
            texts = "".join(
                f'<text x="{scale(at):.0f}" y="{foot + 15:.0f}" text-anchor="middle">{_text(said)}</text>'
                for at, said in scale.ticks
            )
            middle = (self.left + self.right) / 2
            title = f'<text x="{middle:.0f}" y="{foot + 33:.0f}" text-anchor="middle">{_text(scale.title)}</text>'
        else:
            lines = "".join(f"M{self.left:.0f} {scale(at):.0f}H{self.right:.0f}" for at, _ in scale.ticks)
            texts = "".join(
                f'<text x="{self.left - 6:.0f}" y="{scale(at) + 4:.0f}" text-anchor="end">{_text(said)}</text>'
                for at, said in scale.ticks
            )
            middle = (scale.begin_px + scale.end_px) / 2
            turned = f'transform="rotate(-90 12 {middle:.0f})"'
            title = f'<text x="12" y="{middle:.0f}" text-anchor="middle" {turned}>{_text(scale.title)}</text>'
        yield f'<path d="{lines}" {GRID} fill="none"/>' if lines and scale.grid else ""
        yield texts
        yield title if scale.title else ""

    # Traces.

    def _of(self, trace: Figure) -> tuple[_Scale, _Scale]:
        return self.scales[_axis_name("x", trace)], self.scales[_axis_name("y", trace)]

    def _scatter(self, trace: Figure) -> Iterator[str]:
        x, y = self._of(trace)
        marker, mode = trace.get("marker", {}), trace["mode"]
        places = evenly(len(trace["x"]), MOST_POINTS)
        points = [
            (x(trace["x"][place]), y(trace["y"][place]))
            if x.shows(trace["x"][place]) and y.shows(trace["y"][place])
            else None
            for place in places
        ]
        if "lines" in mode:
            yield _line(points, trace.get("line", {}))
        yield self._whiskers(trace, x, y, places)
        if "markers" in mode and marker.get("opacity", 1) > 0:
            yield _markers([each for each in points if each is not None], marker)

    def _whiskers(self, trace: Figure, x: _Scale, y: _Scale, places: Sequence[int]) -> str:
        path = ""
        for name, scale in (("error_x", x), ("error_y", y)):
            bar = trace.get(name)
            for place in places if bar else ():
                at_x, at_y = trace["x"][place], trace["y"][place]
                if bar is None or not (x.shows(at_x) and y.shows(at_y)):
                    continue
                middle = at_x if name == "error_x" else at_y
                low, high = middle - bar["arrayminus"][place], middle + bar["array"][place]
                if low == high or (scale.logarithmic and low <= 0):
                    continue
                if name == "error_x":
                    path += f"M{x(low):.1f} {y(at_y):.1f}H{x(high):.1f}m0-3v6M{x(low):.1f} {y(at_y) - 3:.1f}v6"
                else:
                    path += f"M{x(at_x):.1f} {y(low):.1f}V{y(high):.1f}m-3 0h6M{x(at_x) - 3:.1f} {y(low):.1f}h6"
        return f'<path d="{path}" stroke="currentColor" fill="none"/>' if path else ""

    def _bars(self, trace: Figure, base: Sequence[float], ends: Sequence[float]) -> Iterator[str]:
        x, y = self._of(trace)
        thick = trace.get("width", 0.8) / 2
        colour = trace["marker"].get("color", NEUTRAL)
        hatched = "pattern" in trace["marker"]
        for place, (row, begin, end) in enumerate(zip(trace["y"], base, ends, strict=True)):
            if begin == end:
                continue
            low, high = sorted((x(begin), x(end)))
            top, foot = sorted((y(row - thick), y(row + thick)))
            own = (
                colour[place]
                if isinstance(colour, list)
                else trace["marker"]["pattern"]["fgcolor"]
                if hatched
                else colour
            )
            style = f'fill="{own}" fill-opacity=".25" stroke="{own}"' if hatched else f'fill="{own}"'
            yield f'<rect x="{low:.1f}" y="{top:.1f}" width="{high - low:.1f}" height="{foot - top:.1f}" {style}/>'
        yield self._whiskers({**trace, "x": list(ends)}, x, y, range(len(ends)))

    # Words and marks.

    def _place(self, value: float, reference: str, side: str, *, exponent: bool) -> float:
        if reference == "paper":
            first, last = (self.left, self.right) if side == "x" else (self.bottom, self.top)
            return first + value * (last - first)
        scale = self.scales.get(f"{side}axis{reference[1:]}") or self.scales[f"{side}axis"]
        return scale.at(value) if exponent else scale(value)

    def _shape(self, shape: Figure) -> str:
        xs, ys = (
            [self._place(shape[f"{side}{end}"], shape.get(f"{side}ref", side), side, exponent=False) for end in (0, 1)]
            for side in ("x", "y")
        )
        xs = [min(max(each, self.left), self.right) for each in xs]
        if shape["type"] == "rect":
            low, top = min(xs), min(ys)
            size = f'width="{max(xs) - low:.1f}" height="{max(ys) - top:.1f}"'
            paint = f'fill="{shape["fillcolor"]}" fill-opacity="{shape["opacity"]}"'
            return f'<rect x="{low:.1f}" y="{top:.1f}" {size} {paint}/>'
        line = shape["line"]
        path = f"M{xs[0]:.1f} {ys[0]:.1f}L{xs[1]:.1f} {ys[1]:.1f}"
        return f'<path d="{path}" stroke="{line["color"]}" stroke-width="{line["width"]}"{_dash(line)} fill="none"/>'

    def _note(self, note: Figure) -> str:
        x = self._place(note["x"], note.get("xref", "x"), "x", exponent=True)
        y = self._place(note["y"], note.get("yref", "y"), "y", exponent=True)
        anchor = {"left": "start", "right": "end"}.get(note.get("xanchor", "center"), "middle")
        lines = note["text"].split("<br>")
        # plotly centres what says no side; below a place stands what is anchored at its top
        first = {"bottom": -4 - FONT_PX * (len(lines) - 1) * 1.3, "top": FONT_PX}.get(note.get("yanchor", "middle"), 4)
        spans = "".join(
            f'<tspan x="{x:.0f}" dy="{0 if number == 0 else FONT_PX * 1.3:.0f}">{_rich(line)}</tspan>'
            for number, line in enumerate(lines)
        )
        return f'<text x="{x:.0f}" y="{y + first:.0f}" text-anchor="{anchor}">{spans}</text>'

    def _entry(self, trace: Figure, name: str, x: float, y: float) -> str:
        marker, line = trace.get("marker", {}), trace.get("line", {})
        drawn = ""
        if trace["type"] == "bar":
            colour = marker.get("color")
            drawn = f'<rect x="{x:.0f}" y="{y - 5:.0f}" width="18" height="10" fill="{colour}"/>'
        if "lines" in trace.get("mode", ""):
            drawn += _line([(x, y), (x + 20, y)], line)
        if "markers" in trace.get("mode", ""):
            drawn += _markers([(x + 10, y)], marker)
        return f'{drawn}<text x="{x + 25:.0f}" y="{y + 4:.0f}">{_text(name)}</text>'


def _axis_name(side: str, trace: Figure) -> str:
    """Such as `yaxis2` for a trace with `yaxis="y2"`."""
    return f"{side}axis{trace.get(f'{side}axis', side)[1:]}"


def _stacked_bars(figure: Figure) -> Iterator[tuple[Figure, list[float], list[float]]]:
    """Every trace of bars with where each bar begins and ends."""
    stacks = figure["layout"].get("barmode") in ("stack", "relative")
    reached: dict[tuple[float, bool], float] = {}
    for trace in figure["data"]:
        if trace["type"] != "bar":
            continue
        begins, ends = [], []
        for row, value in zip(trace["y"], trace["x"], strict=True):
            length = value or 0.0
            begin = reached.get((row, length < 0), 0.0) if stacks else 0.0
            reached[row, length < 0] = begin + length
            begins.append(begin)
            ends.append(begin + length)
        yield trace, begins, ends


def _spans(trace: Figure, side: str) -> Iterator[float]:
    """Every value of a trace along one axis, and the ends of its whiskers."""
    bar = trace.get(f"error_{side}")
    for place, value in enumerate(trace[side]):
        if value is not None:
            yield value
            if bar:
                yield value + bar["array"][place]
                yield value - bar["arrayminus"][place]


def _legend(figure: Figure, width_px: float) -> Iterator[tuple[int, float, str, Figure]]:
    """Row, left edge, name and trace of every entry."""
    if not figure["layout"].get("showlegend"):
        return
    seen: set[str] = set()
    row, x = 0, 0.0
    for trace in figure["data"]:
        name = trace.get("name", "")
        if not name or name in seen or trace.get("showlegend") is False:
            continue
        seen.add(name)
        size = 42 + columns(name) * CHARACTER_PX
        if x and x + size > width_px:
            row, x = row + 1, 0.0
        yield row, x, name, trace
        x += size


def _ticks(axis: Figure, low: float, high: float, *, logarithmic: bool) -> Iterator[tuple[float, str]]:
    """Places with their words: those that the axis names, else round numbers."""
    values, texts = axis.get("tickvals"), axis.get("ticktext")
    if values is None and logarithmic:
        own = log_axis(10**low, 10**high)
        values, texts = own["tickvals"], own["ticktext"]
    if values is None:
        values = list(_round_numbers(min(low, high), max(low, high), axis.get("nticks", 7)))
        texts = [f"{value:,.12g}" for value in values]
    first, last = sorted((low, high))
    for value, text in zip(values, texts or map(str, values), strict=True):
        place = math.log10(value) if logarithmic else value
        if first - 1e-9 <= place <= last + 1e-9:
            yield value, text


def _round_numbers(low: float, high: float, most: int) -> Iterator[float]:
    """At most so many multiples of 1, 2 or 5 times a power of ten."""
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most)) if span > 0 else 1.0
    step = next(power * digit for digit in (1, 2, 5, 10, 20) if span / (power * digit) <= most)
    first = math.ceil(low / step - 1e-9)
    for number in range(first, math.floor(high / step + 1e-9) + 1):
        yield float(f"{number * step:.10g}")


def _line(points: Iterable[tuple[float, float] | None], line: Figure) -> str:
    path, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        path.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L"
    style = f'stroke="{line.get("color", NEUTRAL)}" stroke-width="{line.get("width", 2)}"{_dash(line)}'
    return f'<path d="{"".join(path)}" {style} fill="none"/>'


def _dash(line: Figure) -> str:
    dash = DASHES.get(line.get("dash", "solid"))
    return f' stroke-dasharray="{dash}"' if dash else ""


def _polygon(*corners: tuple[float, float]) -> Callable[[float], str]:
    """A closed path around a point, for a marker of a given radius."""

    def path(radius: float) -> str:
        steps = [(x - a, y - b) for (x, y), (a, b) in zip(corners[1:], corners, strict=False)]
        first = corners[0]
        moved = "".join(f"l{x * radius:.1f} {y * radius:.1f}" for x, y in steps)
        return f"m{first[0] * radius:.1f} {first[1] * radius:.1f}{moved}z"

    return path


SQUARE = _polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
SYMBOLS = {
    "square": SQUARE,
    "diamond": _polygon((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "triangle-up": _polygon((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    "triangle-down": _polygon((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
    "star": _polygon(
        (0, -1.3),
        (0.4, -0.4),
        (1.3, -0.3),
        (0.5, 0.3),
        (0.8, 1.2),
        (0, 0.7),
        (-0.8, 1.2),
        (-0.5, 0.3),
        (-1.3, -0.3),
        (-0.4, -0.4),
    ),
    "hexagon": _polygon((-0.5, -1), (0.5, -1), (1.1, 0), (0.5, 1), (-0.5, 1), (-1.1, 0)),
    "pentagon": _polygon((0, -1.1), (1.1, -0.3), (0.7, 1), (-0.7, 1), (-1.1, -0.3)),
    "hourglass": _polygon((-1, -1), (1, -1), (-1, 1), (1, 1)),
}
STROKES = {
    "x": "m-{r} -{r}l{d} {d}m0 -{d}l-{d} {d}",
    "x-thin": "m-{r} -{r}l{d} {d}m0 -{d}l-{d} {d}",
    "cross": "m-{r} 0h{d}m-{r} -{r}v{d}",
    "line-ns": "m0 -{r}v{d}",
}


def _markers(points: Sequence[tuple[float, float]], marker: Figure) -> str:
    """All markers of a trace as one path."""
    if not points:
        return ""
    symbol, size, colour = marker.get("symbol", "circle"), marker.get("size", 8), marker.get("color", NEUTRAL)
    kind, hollow = symbol.removesuffix("-open"), symbol.endswith("-open")
    opacity = "" if marker.get("opacity", 1) == 1 else f' opacity="{marker["opacity"]}"'
    if kind == "circle" and not hollow:
        # A line of no length with round ends is a dot.
        path = "".join(f"M{x:.0f} {y:.0f}h0" if size < 5 else f"M{x:.1f} {y:.1f}h0" for x, y in points)
        return f'<path d="{path}" stroke="{colour}" stroke-width="{size}" stroke-linecap="round"{opacity}/>'
    radius = size / 2
    if kind in STROKES:
        shape = STROKES[kind].format(r=f"{radius * 0.8:.1f}", d=f"{radius * 1.6:.1f}")
    elif kind == "circle":
        half = f"a{radius:.1f} {radius:.1f} 0 1 0"
        shape = f"m-{radius:.1f} 0{half} {size:.1f} 0{half} -{size:.1f} 0"
    else:
        shape = SYMBOLS.get(kind, SQUARE)(radius)
    path = "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in points)
    is_open = hollow or kind in STROKES
    paint = f'fill="none" stroke="{colour}" stroke-width="1.5"' if is_open else f'fill="{colour}"'
    return f'<path d="{path}" {paint}{opacity}/>'


def _text(said: str) -> str:
    """Words of a figure, which hold plotly's entities and no markup."""
    return _rich(said.replace("<br>", " "))


def _rich(said: str) -> str:
    """The same with plotly's bold."""
    parts = re.split(r"(</?b>)", printable(said))
    marks = {"<b>": '<tspan font-weight="700">', "</b>": "</tspan>"}
    return "".join(marks.get(part) or part.replace("<", "&lt;").replace(">", "&gt;") for part in parts)
