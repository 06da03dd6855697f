"""The speed-up at every length, in a panel below the latencies that it is the ratio of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvbench.report.charts.figures import Look, Trace, line, rule, scaled
from kvbench.report.sentences import say

HEIGHT_PX = 110
SHARE = 0.24  # of the whole height
GAP = 0.1


@dataclass(frozen=True)
class Ratio:
    """Latency of a baseline over that of a candidate, by context length."""

    name: str
    look: Look
    lengths: Sequence[float]
    values: Sequence[float]


def ratio_of(name: str, look: Look, baseline: Mapping[float, float], candidate: Mapping[float, float]) -> Ratio | None:
    """From seconds by length; None where the two have no two lengths in common."""
    lengths = sorted(set(baseline) & set(candidate))
    known = [length for length in lengths if candidate[length] > 0]
    if len(known) < 2:
        return None
    return Ratio(name, look, known, [baseline[length] / candidate[length] for length in known])


def ratio_panel(ratios: Sequence[Ratio], latency_axis: Mapping[str, Any]) -> tuple[list[Trace], dict[str, Any]]:
    """Traces and layout of the panel; `latency_axis` is the axis above, which makes room. Nothing without ratios."""
    if not ratios:
        return [], {"yaxis": latency_axis}
    traces = [
        line(
            each.look,
            x=scaled(each.lengths, 1),
            y=scaled(each.values, 1),
            yaxis="y2",
            name=each.name,
            line={"width": 2},
            legendgroup=each.name,
            showlegend=False,
            hovertemplate="%{y:.3g}×",
        )
        for each in ratios
    ]
    layout = {
        "yaxis": {**latency_axis, "domain": [SHARE + GAP, 1]},
        "yaxis2": {
            "title": {"text": say("axis.speedup")},
            "domain": [0, SHARE],
            "anchor": "x",
            "rangemode": "tozero",
            "nticks": 4,
        },
        "shapes": [rule(y=1, yref="y2")],
    }
    return traces, layout
