"""The chart of what fits: the largest context and batch of every arm, predicted and found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvbench.arm import arm_names
from kvbench.printable import printable
from kvbench.records.run_record import RunRecord
from kvbench.records.scaling import Axis, FrontierEdge
from kvbench.report.charts.figures import (
    AXES_HEIGHT_PX,
    ROW_HEIGHT_PX,
    Chart,
    Trace,
    dots,
    figure,
    label,
    log_axis,
    note,
    stacked,
)
from kvbench.report.charts.palette import Look
from kvbench.report.formatting import format_value

EDGE = 1.6  # of the axis beyond what is drawn

WORDS: dict[Axis, tuple[str, str]] = {
    "context": ("largest context that fits (tokens, logarithmic)", "tokens of context"),
    "batch": ("largest batch that fits (sequences, logarithmic)", "sequences"),
}


def frontier(record: RunRecord, looks: Mapping[str, Look]) -> Chart | None:
    """Predicted and found edges by axis; None where the run looked for none."""
    if record.frontier is None or not record.frontier.edges:
        return None
    key, title = "frontier", "What fits"
    names, edges = arm_names(record.arms), record.frontier.edges
    said = " ".join(_said(edge, names) for edge in edges)
    panels = [
        (axis, mine)
        for axis in WORDS
        if (mine := [edge for edge in edges if edge.axis == axis and (edge.found or edge.predicted)])
    ]
    if not panels:
        return Chart(key, title, said)
    traces: list[Trace] = []
    layout: dict[str, Any] = {"annotations": []}
    most = max(len(mine) for _, mine in panels)
    for row, ((axis, mine), domain) in enumerate(zip(panels, stacked(len(panels), 0.26), strict=True)):
        number = "" if row == 0 else str(row + 1)
        for place, edge in enumerate(mine):
            traces += _of_edge(edge, place, label(names[edge.arm], names), looks[names[edge.arm]], number)
            layout["annotations"].append(
                note(
                    f"<b>{label(names[edge.arm], names)}</b>  {_short(edge)}",
                    xref="paper",
                    x=0,
                    xanchor="left",
                    yref=f"y{number}",
                    y=place - 0.2,
                    yanchor="bottom",
                )
            )
        layout[f"xaxis{number}"] = {
            "title": {"text": WORDS[axis][0]},
            "anchor": f"y{number}",
            **_axis(mine),
        }
        layout[f"yaxis{number}"] = {
            "domain": domain,
            "anchor": f"x{number}",
            "range": [len(mine) - 0.6, -0.78],
            "showticklabels": False,
            "ticks": "",
            "showgrid": False,
            "zeroline": False,
        }
    return Chart(
        key,
        title,
        f"{said} Filled: found by trying; hollow: predicted; cross: the smallest size tried that did not fit.",
        figure(traces, showlegend=False, margin={"l": 12, "r": 16, "t": 12, "b": 52}, **layout),
        height_px=AXES_HEIGHT_PX * len(panels) + ROW_HEIGHT_PX * most * len(panels),
    )


def _of_edge(edge: FrontierEdge, place: int, name: str, look: Look, number: str) -> list[Trace]:
    axes: Trace = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
    known = [size for size in (edge.found, edge.predicted, edge.found_above) if size]
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [min(known), max(known)],
            "y": [place, place],
            "line": {"color": look.colour, "width": 2},
            "hoverinfo": "skip",
            **axes,
        }
    ]
    for size, word, own in (
        (edge.found_above, "does not fit", {"symbol": "x-thin-open", "size": 10, "line": {"width": 2}}),
        (edge.predicted, "predicted", {"symbol": f"{look.marker}-open", "size": 14, "line": {"width": 1.5}}),
        (edge.found, "found", {"size": 10}),
    ):
        if size:
            hover = f"{name}, {word}: %{{x:,}}<extra></extra>"
            traces.append(dots(look, x=[size], y=[place], marker=own, hovertemplate=hover, **axes))
    return traces


def _short(edge: FrontierEdge) -> str:
    found = "nothing found" if edge.found is None else f"{edge.found:,}"
    return found if edge.predicted is None else f"{found} (predicted {edge.predicted:,})"


def _axis(edges: list[FrontierEdge]) -> dict[str, Any]:
    sizes = [size for edge in edges for size in (edge.found, edge.predicted, edge.found_above) if size]
    return log_axis(min(sizes) / EDGE, max(sizes) * EDGE)


def _said(edge: FrontierEdge, names: tuple[str, ...]) -> str:
    other = f"{edge.fixed:,} tokens of context" if edge.axis == "batch" else f"a batch of {edge.fixed:,}"
    if edge.found is None:
        return f"{names[edge.arm]}, {edge.axis}: {printable(edge.detail)}."
    said = f"{names[edge.arm]} fits {edge.found:,} {WORDS[edge.axis][1]} at {other}"
    if edge.predicted is not None:
        error = "" if edge.error is None else f", {'+' if edge.error > 0 else ''}{format_value(edge.error, 'ratio')}"
        said += f" (predicted {edge.predicted:,}{error})"
    return f"{said}."
