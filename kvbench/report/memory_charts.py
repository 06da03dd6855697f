"""Charts of memory: the cache by context length, and the whole process over the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from kvbench.printable import printable
from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.figures import Chart, figure, label, scaled
from kvbench.report.formatting import axis_scale, format_value
from kvbench.report.palette import NEUTRAL, Look

LONG_PHASE = 0.12  # share of the run from which a phase has room for its name in the chart


def cache_by_context(record: RunRecord, looks: Mapping[str, Look]) -> Chart:
    """Bytes held by the KV cache against context length."""
    title = "KV cache against context length"
    series = {
        name: [
            (point.context_length, point.kv_cache_bytes)
            for point in arm.memory_by_context
            if point.kv_cache_bytes is not None
        ]
        for name, arm in zip(arm_names(record), record.arms, strict=True)
    }
    values = [size for points in series.values() for _, size in points]
    if not values:
        return Chart(
            "cache",
            title,
            "The cache's bytes are not known: the run ended before its memory pass, or the cache cannot be walked.",
        )
    scale, unit = axis_scale(list(map(float, values)), "bytes")
    traces = [
        go.Scatter(
            x=[length for length, _ in points],
            y=scaled((size for _, size in points), scale),
            mode="lines" if len(points) > 1 else "markers",
            name=label(name),
            line={"color": looks[name].colour, "dash": looks[name].dash, "width": 2.5},
            hovertemplate="%{y:.4g} " + unit,
        )
        for name, points in series.items()
        if points
    ]
    ends = "; ".join(
        f"{name} holds {format_value(points[-1][1], 'bytes')} at {points[-1][0]:,} tokens"
        for name, points in series.items()
        if points
    )
    return Chart(
        "cache",
        title,
        f"{ends}. Walked from the cache's tensors in the untimed pass, all sequences of the largest batch together.",
        figure(
            traces,
            xaxis={"title": "context length (tokens)"},
            yaxis={"title": f"KV cache ({unit})", "rangemode": "tozero"},
            hovermode="x unified",
        ),
    )


def memory_over_run(record: RunRecord) -> Chart:
    """Memory of the measured process and its device over the whole run, seen from outside."""
    title = "Memory over the run"
    samples = record.memory_timeline
    kinds = {
        "process memory (RSS)": ([sample.process_rss_bytes for sample in samples], "solid"),
        "device memory in use": ([sample.device_used_bytes for sample in samples], "dash"),
    }
    known = {name: kind for name, kind in kinds.items() if any(value is not None for value in kind[0])}
    if not known:
        return Chart(
            "memory",
            title,
            "Nothing watched this run's memory from outside: launch=inline, or the run ended before the first reading.",
        )
    scale, unit = axis_scale(
        [float(value) for values, _ in known.values() for value in values if value is not None], "bytes"
    )
    traces = [
        go.Scatter(
            x=[sample.elapsed_s for sample in samples],
            y=[None if value is None else value / scale for value in values],
            customdata=[label(printable(sample.phase)) for sample in samples],
            mode="lines",
            name=name,
            line={"color": NEUTRAL, "dash": dash, "width": 2},
            hovertemplate="%{y:.4g} " + unit + " while %{customdata}",
        )
        for name, (values, dash) in known.items()
    ]
    peaks = "; ".join(
        f"{name} peaks at {format_value(max(v for v in values if v is not None), 'bytes')}"
        for name, (values, _) in known.items()
    )
    return Chart(
        "memory",
        title,
        f"{peaks}. Read from outside the measured process, all arms one after another.",
        figure(
            traces,
            xaxis={"title": "seconds since the run began"},
            yaxis={"title": f"memory ({unit})", "rangemode": "tozero"},
            showlegend=True,
            **_phases(record),
        ),
    )


def _phases(record: RunRecord) -> dict[str, Any]:
    """A hairline where a phase of the run begins, with its name where there is room."""
    samples = record.memory_timeline
    starts = [index for index, sample in enumerate(samples) if index == 0 or sample.phase != samples[index - 1].phase]
    length_s = samples[-1].elapsed_s - samples[0].elapsed_s
    lines, names = [], []
    for index, following in zip(starts, [*starts[1:], len(samples) - 1], strict=True):
        begin_s = samples[index].elapsed_s
        lines.append(
            {
                "type": "line",
                "x0": begin_s,
                "x1": begin_s,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"width": 0.5, "color": NEUTRAL},
            }
        )
        if length_s and (samples[following].elapsed_s - begin_s) / length_s >= LONG_PHASE:
            names.append(
                {
                    "x": begin_s,
                    "yref": "paper",
                    "y": 1,
                    "xanchor": "left",
                    "yanchor": "top",
                    "text": label(printable(samples[index].phase)),
                    "showarrow": False,
                    "font": {"size": 11},
                }
            )
    return {"shapes": lines, "annotations": names}
