"""Charts of memory: the cache by context length, and the whole process over the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.records.untimed import Memory
from kvbench.report.charts.figures import (
    NEUTRAL,
    PARTS,
    Chart,
    Look,
    Numbers,
    Trace,
    bars,
    figure,
    label,
    line,
    named_rows,
    note,
    rows_height,
    rule,
    scaled,
)
from kvbench.report.names import axis_scale
from kvbench.report.run_facts import phase_name
from kvbench.report.sentences import say
from kvbench.text import format_value, printable

LONG_PHASE = 0.2  # share of the run from which a phase has room for its name in the chart
PHASE_CHARACTERS = 18
LEGEND_PX = 46  # of the parts of memory: on a phone it takes three lines
# The words for the parts of memory.
PART_CODES = {kind: f"part.{kind.replace(' ', '-')}" for kind in PARTS}
VISIBLE = 0.005  # of the whole: what a bar can show


def memory_parts(memory: Memory) -> dict[str, int] | None:
    """What an arm's memory is made of, in bytes: of the device where it was reconciled, else of the process.

    The parts add up to `device_used_bytes` of the reconciliation; of a process they are its weights and its cache. None
    where neither is known. `unexplained` may be negative.
    """
    found = memory.reconciliation
    if found is not None:
        return {
            "weights": found.weights_bytes,
            "KV cache": found.kv_cache_bytes,
            "step peak": found.step_peak_bytes,
            "allocator slack": found.allocator_slack_bytes,
            "device context": found.device_context_bytes,
            "kernels": found.kernels_bytes,
            "elsewhere": found.elsewhere_bytes,
            "unexplained": found.unexplained_bytes,
        }
    rss, weights, cache = memory.process_rss_bytes, memory.weights_bytes, memory.kv_cache_bytes
    # On a device of its own memory, weights and cache are no part of what the process has on the host.
    if rss is None or weights is None or cache is None or memory.device_used_bytes is not None:
        return None
    # What Python and torch take on the host is a hundred times a small model: beside it no cache could be seen.
    return None if rss < weights + cache else {"weights": weights, "KV cache": cache}


def memory_stack(record: RunRecord) -> Chart | None:
    """What the memory of every arm is made of, stacked; None where it is not known of any."""
    names = arm_names(record.arms)
    known = {row: parts for row, arm in enumerate(record.arms) if (parts := memory_parts(arm.memory)) is not None}
    if not known:
        return None
    reconciled = {row: parts for row, parts in known.items() if record.arms[row].memory.reconciliation is not None}
    on_device = bool(reconciled)
    known = reconciled or known  # never both: the process's memory is not the device's
    totals = {row: sum(parts.values()) for row, parts in known.items()}
    scale, unit = axis_scale([float(max(totals.values()))], "bytes")
    kinds = [kind for kind in PARTS if any(kind in parts for parts in known.values())]
    traces = [
        bars(
            name=say(PART_CODES[kind]),
            y=list(known),
            x=scaled((parts.get(kind, 0) for parts in known.values()), scale),
            marker={"color": PARTS[kind], "line": {"color": NEUTRAL, "width": 0.5}},
            customdata=[format_value(parts.get(kind, 0), "bytes") for parts in known.values()],
            hovertemplate=say("hover.part", name=say(PART_CODES[kind]), size="%{customdata}") + "<extra></extra>",
        )
        for kind in kinds
        if any(parts.get(kind, 0) for parts in known.values())
    ]
    figures = [format_value(totals.get(row), "bytes") for row in range(len(names))]
    shown = [kind for kind in kinds if any(_is_told(kind, parts, totals[row]) for row, parts in known.items())]
    rest = max((record.arms[row].memory.process_rss_bytes or 0) - total for row, total in totals.items())
    whole = (
        say("chart.memory-stack.device")
        if on_device
        else say("chart.memory-stack.host", rest=format_value(rest, "bytes"))
    )
    return Chart(
        "memory-stack",
        say("chart.memory-stack.title"),
        whole,
        figure(
            traces,
            xaxis={"title": {"text": say("axis.memory", unit=unit)}},
            barmode="relative",
            showlegend=True,
            **_with_legend_below(named_rows(names, figures)),
        ),
        height_px=rows_height(names, figures) + LEGEND_PX,
        numbers=Numbers(
            (say("head.arm"), say("head.together"), *(say(PART_CODES[kind]) for kind in shown)),
            tuple(
                (names[row], figures[row], *(format_value(parts.get(kind), "bytes") for kind in shown))
                for row, parts in known.items()
            ),
        ),
    )


def _is_told(kind: str, parts: Mapping[str, int], total: int) -> bool:
    """The parts that can be seen, and the cache always: it is what the question is about."""
    size = parts.get(kind, 0)
    return kind == "KV cache" or abs(size) >= VISIBLE * total or (kind == "unexplained" and bool(size))


def _with_legend_below(layout: dict[str, Any]) -> dict[str, Any]:
    return layout | {"legend": {"orientation": "h", "x": 0, "y": -0.02, "yref": "container", "yanchor": "bottom"}}


def cache_by_context(record: RunRecord, looks: Mapping[str, Look]) -> Chart:
    """Bytes held by the KV cache against context length."""
    title = say("chart.cache.title")
    series = {
        name: [
            (point.context_length, point.kv_cache_bytes)
            for point in arm.memory_by_context
            if point.kv_cache_bytes is not None
        ]
        for name, arm in zip(arm_names(record.arms), record.arms, strict=True)
    }
    values = [size for points in series.values() for _, size in points]
    if not values:
        return Chart(
            "cache",
            title,
            say("chart.no-cache-bytes"),
        )
    scale, unit = axis_scale(list(map(float, values)), "bytes")
    traces = [
        line(
            looks[name],
            x=[length for length, _ in points],
            y=scaled((size for _, size in points), scale),
            name=label(name, tuple(series)),
            hovertemplate="%{y:.4g} " + unit,
        )
        for name, points in series.items()
        if points
    ]
    return Chart(
        "cache",
        title,
        say("chart.cache"),
        figure(
            traces,
            xaxis={"title": {"text": say("axis.context")}},
            yaxis={"title": {"text": say("axis.cache", unit=unit)}, "rangemode": "tozero"},
            hovermode="x unified",
            showlegend=True,
        ),
        numbers=Numbers(
            tuple(map(say, ("head.arm", "head.first-context", "head.cache", "head.last-context", "head.cache"))),
            tuple(
                (name, *(cell for length, size in (points[0], points[-1]) for cell in _held_at(length, size)))
                for name, points in series.items()
                if points
            ),
        ),
        switched="yaxis",
    )


def _held_at(length: int, size: int) -> tuple[str, str]:
    return say("count.tokens", count=f"{length:,}"), format_value(size, "bytes")


def memory_over_run(record: RunRecord) -> Chart:
    """Memory of the measured process and its device over the whole run, seen from outside."""
    title = say("chart.memory-over-run.title")
    samples = record.memory_timeline
    kinds = {
        say("legend.process-memory"): ([sample.process_rss_bytes for sample in samples], "solid"),
        say("legend.device-memory"): ([sample.device_used_bytes for sample in samples], "dash"),
    }
    known = {name: kind for name, kind in kinds.items() if any(value is not None for value in kind[0])}
    if not known:
        return Chart(
            "memory",
            title,
            say("chart.memory-unwatched"),
        )
    scale, unit = axis_scale(
        [float(value) for values, _ in known.values() for value in values if value is not None], "bytes"
    )
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": scaled((sample.elapsed_s for sample in samples), 1),
            "y": [None if value is None else scaled([value], scale)[0] for value in values],
            "customdata": [label(printable(phase_name(sample.phase))) for sample in samples],
            "name": name,
            "line": {"color": NEUTRAL, "dash": dash, "width": 2},
            "hovertemplate": say("hover.while", figure=f"%{{y:.4g}} {unit}", phase="%{customdata}"),
        }
        for name, (values, dash) in known.items()
    ]
    return Chart(
        "memory",
        title,
        say("chart.memory-over-run"),
        figure(
            traces,
            xaxis={"title": {"text": say("axis.seconds")}},
            yaxis={"title": {"text": say("axis.memory", unit=unit)}, "rangemode": "tozero"},
            showlegend=True,
            **_phases(record),
        ),
        numbers=Numbers(
            (say("head.memory"), say("head.peak")),
            tuple(
                (name, format_value(max(each for each in values if each is not None), "bytes"))
                for name, (values, _) in known.items()
            ),
        ),
        switched="yaxis",
    )


def _phases(record: RunRecord) -> dict[str, Any]:
    """A hairline where a phase of the run begins, with its name where there is room."""
    samples = record.memory_timeline
    starts = [index for index, sample in enumerate(samples) if index == 0 or sample.phase != samples[index - 1].phase]
    length_s = samples[-1].elapsed_s - samples[0].elapsed_s
    lines, names = [], []
    for index, following in zip(starts, [*starts[1:], len(samples) - 1], strict=True):
        begin_s = samples[index].elapsed_s
        lines.append(rule(x=begin_s, dash="solid") | {"line": {"width": 0.5, "color": NEUTRAL}})
        if length_s and (samples[following].elapsed_s - begin_s) / length_s >= LONG_PHASE:
            phase = printable(phase_name(samples[index].phase))
            names.append(
                note(
                    label(phase if len(phase) <= PHASE_CHARACTERS else f"{phase[: PHASE_CHARACTERS - 1]}…"),
                    x=begin_s,
                    xanchor="left",
                    yref="paper",
                    y=0,
                    yanchor="bottom",
                    font={"size": 11},
                )
            )
    return {"shapes": lines, "annotations": names}
