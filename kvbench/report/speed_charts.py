"""Charts of speed: the arms of one run, and many runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.figures import CHART_HEIGHT_PX, Chart, figure, interval, label, named_rows
from kvbench.report.formatting import format_value
from kvbench.report.metrics import BY_KEY
from kvbench.report.nulls import null_reason
from kvbench.report.palette import NEUTRAL, Look
from kvbench.report.verdicts import pairs

BAR_HEIGHT_PX = 54
GROUPED_BAR_HEIGHT_PX = 22
AXES_HEIGHT_PX = 100  # what a chart needs besides its bars


def speed(record: RunRecord, looks: Mapping[str, Look]) -> Chart:
    """Decode tokens/s of every arm with its interval."""
    metric = BY_KEY["decode_tokens_per_s"]
    title = "Decode speed by mode"
    rates = [arm.decode_tokens_per_s for arm in record.arms]
    if not any(rate.value for rate in rates):
        reason = null_reason(record, metric.pointer(0)) if rates else "nothing was measured"
        return Chart("speed", title, f"No rates: {reason}.")
    names = arm_names(record)
    bars = go.Bar(
        orientation="h",
        y=list(range(len(names))),
        x=[rate.value for rate in rates],
        marker_color=[looks[name].colour for name in names],
        error_x=interval([(rate.value, rate.ci_low, rate.ci_high) for rate in rates]),
        text=[format_value(rate.value, "tokens/s") for rate in rates],
        textposition="inside",
        insidetextanchor="start",
        insidetextfont_color="#FFFFFF",
        customdata=[metric.show(arm) for arm in record.arms],
        hovertemplate="%{customdata}<extra></extra>",
        width=0.62,
    )
    shown = "; ".join(f"{name} {metric.show(arm)}" for name, arm in zip(names, record.arms, strict=True))
    return Chart(
        "speed",
        title,
        f"Longer is faster: {shown}. Median over blocks, whiskers are its interval.",
        figure(
            [bars],
            xaxis={"title": "decode tokens/s", "rangemode": "tozero"},
            yaxis=named_rows(names),
            showlegend=False,
        ),
        height_px=AXES_HEIGHT_PX + BAR_HEIGHT_PX * len(names),
    )


def speed_by_run(records: Sequence[RunRecord], labels: Sequence[str], looks: Mapping[str, Look]) -> Chart:
    """Decode tokens/s of every arm of every valid run."""
    title = "Decode speed by run and mode"
    runs = [(record, name) for record, name in zip(records, labels, strict=True) if record.valid]
    bars = []
    for arm_name, look in looks.items():
        mine = [
            (row, arm)
            for row, (record, _) in enumerate(runs)
            for name, arm in zip(arm_names(record), record.arms, strict=True)
            if name == arm_name and arm.decode_tokens_per_s.value is not None
        ]
        rates = [arm.decode_tokens_per_s for _, arm in mine]
        if rates:
            bars.append(
                go.Bar(
                    orientation="h",
                    name=label(arm_name),
                    y=[row for row, _ in mine],
                    x=[rate.value for rate in rates],
                    marker_color=look.colour,
                    error_x=interval([(rate.value, rate.ci_low, rate.ci_high) for rate in rates]),
                    customdata=[BY_KEY["decode_tokens_per_s"].show(arm) for _, arm in mine],
                    hovertemplate="%{customdata}",
                )
            )
    if not bars:
        return Chart("speed-by-run", title, "No valid run has a rate to show.")
    left_out = len(records) - len(runs)
    return Chart(
        "speed-by-run",
        title,
        f"Longer is faster. Median over blocks, whiskers are its interval, {len(runs)} valid runs"
        + (f"; {left_out} that are not valid are left out." if left_out else "."),
        figure(
            bars,
            xaxis={"title": "decode tokens/s", "rangemode": "tozero"},
            yaxis=named_rows([name for _, name in runs]),
            showlegend=True,
        ),
        height_px=AXES_HEIGHT_PX + GROUPED_BAR_HEIGHT_PX * max(len(runs) * (len(bars) + 1), 6),
    )


def speedup_by_prompt(records: Sequence[RunRecord], series: Sequence[str], looks: Mapping[str, Look]) -> Chart | None:
    """Speed-up against prompt tokens over the valid runs; None when the prompt length does not vary.

    `series` holds one name per run for what else sets it apart: only runs of one series are joined by a line.
    """
    points: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    for record, name in zip(records, series, strict=True):
        if record.workload is None:
            continue
        for comparison, pair in zip(record.comparisons, pairs(record), strict=True):
            if pair.not_a_result is None and comparison.speedup.value is not None:
                drawn = points.setdefault((name, pair.candidate), [])
                drawn.append((max(record.workload.prompt_tokens), comparison.speedup))
    lengths = {length for drawn in points.values() for length, _ in drawn}
    if len(lengths) < 2:
        return None
    traces = [
        go.Scatter(
            x=[length for length, _ in sorted_points],
            y=[ratio.value for _, ratio in sorted_points],
            error_y=interval([(ratio.value, ratio.ci_low, ratio.ci_high) for _, ratio in sorted_points]),
            mode="lines+markers",
            name=label(" · ".join(filter(None, (candidate, name)))),
            line={"color": looks[candidate].colour, "dash": looks[candidate].dash, "width": 2.5},
            marker={"symbol": looks[candidate].marker, "size": 8},
            hovertemplate="%{y:.4g}× at %{x:,} tokens",
        )
        for (name, candidate), drawn in points.items()
        for sorted_points in [sorted(drawn, key=lambda point: point[0])]
    ]
    best_length, best = max((point for drawn in points.values() for point in drawn), key=lambda point: point[1].value)
    return Chart(
        "speedup-by-prompt",
        "Speed-up against prompt length",
        f"The largest speed-up is {format_value(best.value, 'times')}, at {best_length:,} prompt tokens. Above 1 the"
        " candidate is faster; whiskers are the interval, runs that are not valid are left out.",
        figure(
            traces,
            xaxis={
                "title": "prompt tokens (logarithmic)",
                "type": "log",
                "tickvals": sorted(lengths),
                "ticktext": [f"{n:,}" for n in sorted(lengths)],
            },
            yaxis={"title": "speed-up (×)", "rangemode": "tozero"},
            showlegend=True,
            shapes=[
                {
                    "type": "line",
                    "xref": "paper",
                    "x0": 0,
                    "x1": 1,
                    "y0": 1,
                    "y1": 1,
                    "line": {"width": 1, "dash": "dot", "color": NEUTRAL},
                }
            ],
        ),
        height_px=CHART_HEIGHT_PX,
    )
