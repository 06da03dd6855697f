"""A chart as the page takes it: a checked figure, and one sentence that says what it shows.

Text and grid colours are left to the page, which sets them for its light and its dark theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

CHART_HEIGHT_PX = 330
LABEL_CHARACTERS = 44


@dataclass(frozen=True)
class Chart:
    """A figure for plotly.js, or None with the reason in `caption`."""

    key: str
    title: str
    caption: str
    figure: dict[str, Any] | None = None
    height_px: int = CHART_HEIGHT_PX


def figure(traces: Sequence[Any], **layout: Any) -> dict[str, Any]:
    """A figure as plain data, checked by plotly, with what all charts share."""
    shared: dict[str, Any] = {
        "template": "none",
        "margin": {"l": 64, "r": 16, "t": 34, "b": 52},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
    }
    plain: dict[str, Any] = go.Figure(data=list(traces), layout=shared | layout).to_plotly_json()
    return plain


def interval(figures: Sequence[tuple[float | None, float | None, float | None]]) -> dict[str, Any]:
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


def label(text: str) -> str:
    """Text for a chart, cut in its middle to the room there is. Plotly reads a little HTML; names are not markup.

    Two texts may become the same label, so a label must never be a position on an axis: see `named_rows`.
    """
    if len(text) > LABEL_CHARACTERS:
        end = LABEL_CHARACTERS // 2
        text = f"{text[: LABEL_CHARACTERS - end - 1]}…{text[-end:]}"
    return escape(text, quote=False)


def named_rows(names: Sequence[str]) -> dict[str, Any]:
    """A vertical axis with one row per name, the first at the top; row n is at position n."""
    return {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [label(name) for name in names],
        "range": [len(names) - 0.5, -0.5],
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
    }
