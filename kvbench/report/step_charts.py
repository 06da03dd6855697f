"""Charts of the single decode steps: how latency grows with the context, and how it spreads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.figures import Chart, figure, label, scaled
from kvbench.report.formatting import axis_scale, format_value
from kvbench.report.palette import Look
from kvbench.report.series import StepSeries

NO_STEPS = "The single decode steps were not kept (measure.step_lane=false, or the run ended before its first block)."
HEADROOM = 1.15  # of the axis above the highest line


def latency_by_context(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> Chart:
    """Latency of a decode step against the tokens visible to it."""
    title = "Decode step latency against context length"
    if not steps:
        return Chart("latency", title, NO_STEPS)
    names = arm_names(record)
    ceiling_s = HEADROOM * max(max(max(series.median_s), _share_below(series, 0.99)) for series in steps)
    scale, unit = axis_scale([ceiling_s], "s")
    traces: list[Any] = []
    for series in steps:
        look = looks[names[series.arm]]
        shared = {"name": label(names[series.arm]), "legendgroup": str(series.arm)}
        traces.append(
            go.Scatter(
                x=series.point_context_length,
                y=scaled(series.point_s, scale),
                mode="markers",
                marker={"color": look.colour, "size": 3, "opacity": 0.22},
                showlegend=False,
                hoverinfo="skip",
                **shared,
            )
        )
        traces.append(
            go.Scatter(
                x=series.context_length,
                y=scaled(series.median_s, scale),
                mode="lines" if len(series.context_length) > 1 else "markers",
                line={"color": look.colour, "dash": look.dash, "width": 2.5},
                marker={"color": look.colour, "symbol": look.marker, "size": 9},
                hovertemplate="%{y:.4g} " + unit,
                **shared,
            )
        )
    return Chart(
        "latency",
        title,
        f"{_growth(steps, names)} Lines: median over blocks at each context length."
        f" Dots: single steps{_beyond(steps, ceiling_s)}.",
        figure(
            traces,
            xaxis={"title": "context length (tokens)"},
            yaxis={"title": f"decode step ({unit})", "range": [0, ceiling_s / scale]},
            hovermode="x unified",
        ),
    )


def step_distribution(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> Chart:
    """How the single decode steps spread, as the share of steps that took no longer."""
    title = "Distribution of inter-token latency"
    if not steps:
        return Chart("distribution", title, NO_STEPS)
    names = arm_names(record)
    scale, unit = axis_scale([max(_share_below(series, 0.5) for series in steps)], "s")
    traces = [
        go.Scatter(
            x=scaled(series.quantile_s, scale),
            y=scaled(series.quantile, 0.01),
            mode="lines",
            name=label(names[series.arm]),
            line={"color": looks[names[series.arm]].colour, "dash": looks[names[series.arm]].dash, "width": 2.5},
            hovertemplate="%{y:.1f} % of steps took at most %{x:.4g} " + unit,
        )
        for series in steps
    ]
    medians = "; ".join(
        f"{names[series.arm]} {format_value(_share_below(series, 0.5), 's')} median,"
        f" {format_value(_share_below(series, 0.95), 's')} at 95 %"
        for series in steps
    )
    return Chart(
        "distribution",
        title,
        f"Share of the per-token lane's steps that took at most so long: {medians}."
        " Steep is steady, a foot to the right is a tail.",
        figure(
            traces,
            xaxis={"title": f"decode step ({unit}, logarithmic)", "type": "log"},
            yaxis={"title": "share of steps (%)", "range": [0, 102]},
        ),
    )


def _share_below(series: StepSeries, share: float) -> float:
    return series.quantile_s[round(share * (len(series.quantile_s) - 1))]


def _growth(steps: Sequence[StepSeries], names: Sequence[str]) -> str:
    parts = [
        f"{names[series.arm]} takes {format_value(series.median_s[0], 's')} at {series.context_length[0]:,} tokens"
        f" and {format_value(series.median_s[-1], 's')} at {series.context_length[-1]:,}"
        for series in steps
    ]
    return "; ".join(parts) + "."


def _beyond(steps: Sequence[StepSeries], ceiling_s: float) -> str:
    hidden = sum(seconds > ceiling_s for series in steps for seconds in series.point_s)
    drawn = sum(len(series.point_s) for series in steps)
    return f" ({hidden} of {drawn} lie above the chart)" if hidden else ""
