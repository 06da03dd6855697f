"""Charts of speed: the arms of one run."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.figures import Chart, figure, interval, named_rows
from kvbench.report.formatting import format_value
from kvbench.report.metrics import BY_KEY
from kvbench.report.nulls import null_reason
from kvbench.report.palette import Look

BAR_HEIGHT_PX = 54
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
