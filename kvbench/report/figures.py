"""A chart as the page takes it: a checked figure, and one sentence that says what it shows.

Text and grid colours are left to the page, which sets them for its light and its dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def label(text: str) -> str:
    """Text for a chart, cut to the room there is. Plotly reads a little HTML in labels; names are not markup."""
    return escape(text if len(text) <= LABEL_CHARACTERS else f"{text[: LABEL_CHARACTERS - 1]}…", quote=False)
