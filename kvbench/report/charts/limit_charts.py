"""Charts of why a step takes so long: what it is made of, and how far it is from what the machine could do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kvbench.arm import arm_names
from kvbench.records.ceilings import Ceilings
from kvbench.records.run_record import ArmRecord, RunRecord
from kvbench.report.charts.figures import (
    NEUTRAL,
    Chart,
    Look,
    Numbers,
    Trace,
    bars,
    dots,
    figure,
    figures_of,
    interval,
    label,
    log_axis,
    named_rows,
    note,
    rows_height,
    scaled,
)
from kvbench.report.names import axis_scale, format_estimate, null_reason
from kvbench.report.sentences import joined, own_words, say
from kvbench.text import UNKNOWN, format_value

ROOM = 4.0  # by this factor the roofs reach beyond what is drawn under them
ROOFLINE_HEIGHT_PX = 380


def step_time(record: RunRecord, looks: Mapping[str, Look]) -> Chart:
    """ITL of every arm with its interval, split into computing and waiting for the host where that is known."""
    key, title = "step-time", say("chart.step-time.title")
    known = [arm.itl_s.value for arm in record.arms if arm.itl_s.value is not None]
    if not known:
        reason = own_words(null_reason(record, "/arms/0/itl_s")) if record.arms else say("terminal.nothing-measured")
        return Chart(key, title, say("chart.no-latency", reason=reason))
    names = arm_names(record.arms)
    reach = [*known, *(first_s for arm in record.arms if (first_s := _drawn_first_visit(arm)) is not None)]
    scale, unit = axis_scale(reach, "s")
    traces: list[Trace] = []
    said: dict[int, str] = {}
    for row, arm in enumerate(record.arms):
        itl_s, look = arm.itl_s.value, looks[names[row]]
        if itl_s is None:
            said[row] = own_words(null_reason(record, f"/arms/{row}/itl_s"))
            continue
        waiting_s = None if arm.limit.launch_s is None else min(arm.limit.launch_s, itl_s)
        said[row] = format_estimate(arm.itl_s, "s") + _split(arm, itl_s, waiting_s)
        computing_s = itl_s - (waiting_s or 0.0)
        traces.append(bars(look, y=[row], x=scaled([computing_s], scale), hovertemplate=f"%{{x:.4g}} {unit}"))
        if waiting_s is not None:
            pattern = {"shape": "/", "fgcolor": look.colour, "bgcolor": "rgba(0,0,0,0)", "size": 7}
            traces.append(
                bars(
                    look,
                    y=[row],
                    x=scaled([waiting_s], scale),
                    marker={"pattern": pattern, "line": {"color": look.colour, "width": 1}},
                    hovertemplate=say(_waiting(arm), time=f"%{{x:.4g}} {unit}"),
                )
            )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": scaled([itl_s], scale),
                "y": [row],
                "marker": {"opacity": 0, "color": look.colour},
                "error_x": interval([figures_of(arm.itl_s, scale)]),
                "hoverinfo": "skip",
            }
        )
        if (first_s := _drawn_first_visit(arm)) is not None:
            traces.append(
                dots(
                    look,
                    hollow=True,
                    x=scaled([first_s], scale),
                    y=[row],
                    hovertemplate=say("hover.first-generation", time=f"%{{x:.4g}} {unit}"),
                )
            )
        if arm.limit.floor_s is not None:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": scaled([arm.limit.floor_s], scale),
                    "y": [row],
                    "marker": {"symbol": "line-ns-open", "size": 22, "color": NEUTRAL, "line": {"width": 3}},
                    "hovertemplate": say("hover.limit", time=f"%{{x:.4g}} {unit}"),
                }
            )
    figures = [said.get(row, "") for row in range(len(names))]
    return Chart(
        key,
        title,
        _legend(record),
        figure(
            [trace | {"showlegend": False} for trace in traces],
            xaxis={"title": {"text": say("axis.step", unit=unit)}, "rangemode": "tozero"},
            barmode="stack",
            **named_rows(names, figures),
        ),
        height_px=rows_height(names, figures),
        numbers=Numbers(
            tuple(map(say, ("head.arm", "head.step", "head.limit", "head.first-generation"))),
            tuple(
                (
                    name,
                    said.get(row, UNKNOWN),
                    format_value(arm.limit.floor_s, "s"),
                    format_value(_drawn_first_visit(arm), "s"),
                )
                for row, (name, arm) in enumerate(zip(names, record.arms, strict=True))
            ),
        ),
    )


def _on_device(arm: ArmRecord) -> bool:
    return arm.limit.device_busy_s is not None


def _waiting(arm: ArmRecord) -> str:
    return "hover.device-waits" if _on_device(arm) else "hover.dispatching"


def _split(arm: ArmRecord, itl_s: float, waiting_s: float | None) -> str:
    if waiting_s is None:
        return ""
    share = format_value(waiting_s / itl_s, "ratio")
    return say("step-time.waiting" if _on_device(arm) else "step-time.dispatching", share=share)


def _drawn_first_visit(arm: ArmRecord) -> float | None:
    """Seconds of a step of the first visit, unless it compiled: beside seconds of that no step could be seen."""
    return None if arm.repeats else arm.cold.itl_s


def _legend(record: RunRecord) -> str:
    parts = [say("chart.step-time")]
    limits = [arm.limit for arm in record.arms]
    if any(limit.launch_s is not None for limit in limits):
        on_device = any(map(_on_device, record.arms))
        parts.append(say("chart.step-time.device" if on_device else "chart.step-time.host"))
    if any(_drawn_first_visit(arm) is not None for arm in record.arms):
        parts.append(say("chart.hollow-first"))
    if any(arm.repeats for arm in record.arms):
        parts.append(say("chart.step-time.compiled"))
    if any(limit.floor_s is not None for limit in limits):
        parts.append(say("chart.step-time.floor"))
    return joined(*parts)


@dataclass(frozen=True)
class _Work:
    """One kind of pass of one arm under the roof. `roof` is the FLOP rate that its floor would be."""

    arm: int
    kind: str
    flops: int
    bytes: int
    seconds: float
    bytes_per_s: float  # the ceiling of reading so many
    roof: float

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes

    @property
    def rate(self) -> float:
        return self.flops / self.seconds


def roofline(record: RunRecord, looks: Mapping[str, Look]) -> Chart | None:
    """Every arm's step and prefill under the machine's ceilings; None where no cost of a step is known."""
    if all(arm.limit.flops is None for arm in record.arms):
        return None
    key, title = "roofline", say("chart.roofline.title")
    ceilings = record.ceilings
    dtype = str((record.model or {}).get("dtype"))
    peak = ceilings.flops_per_s(dtype) if ceilings else None
    if ceilings is None or peak is None:
        return Chart(key, title, say("chart.no-roof", reason=own_words(null_reason(record, "/arms/0/limit/floor_s"))))
    names = arm_names(record.arms)
    works = [work for row, arm in enumerate(record.arms) for work in _works(row, arm, ceilings, peak)]
    if not works:
        return Chart(key, title, say("chart.no-step"))
    slopes = sorted({work.bytes_per_s for work in works})
    low = min(min(work.intensity for work in works), min(peak / slope for slope in slopes)) / ROOM
    high = max(max(work.intensity for work in works), max(peak / slope for slope in slopes)) * ROOM
    scale, unit = _flops_scale(peak)
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": scaled([low, peak / slope, high], 1),
            "y": scaled([low * slope, peak, peak], scale),
            "line": {"color": NEUTRAL, "width": 2, "dash": "solid" if slope == slopes[-1] else "dot"},
            "showlegend": False,
            "hoverinfo": "skip",
        }
        for slope in slopes
    ]
    for work in works:
        prefill = work.kind == "prefill"
        traces.append(
            dots(
                looks[names[work.arm]],
                hollow=prefill,
                x=scaled([work.intensity], 1),
                y=scaled([work.rate], scale),
                name=label(names[work.arm], names),
                legendgroup=names[work.arm],
                showlegend=not prefill,
                marker={"size": 12},
                hovertemplate=f"%{{x:.4g}} FLOP/byte, %{{y:.4g}} {unit}",
            )
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": scaled([work.intensity] * 2, 1),
                "y": scaled([work.rate, work.roof], scale),
                "line": {"color": looks[names[work.arm]].colour, "width": 1, "dash": "dot"},
                "showlegend": False,
                "hoverinfo": "skip",
            }
        )
    return Chart(
        key,
        title,
        say("chart.roofline"),
        figure(
            traces,
            xaxis={"title": {"text": say("axis.intensity")}, **log_axis(low, high)},
            yaxis={
                "title": {"text": say("axis.achieved", unit=unit)},
                **log_axis(min(work.rate for work in works) / ROOM / scale, peak * ROOM / scale),
            },
            showlegend=True,
            annotations=[
                note(
                    f"{plain(peak / scale)} {unit}",
                    x=math.log10(high),  # an annotation on a logarithmic axis takes the exponent
                    y=math.log10(peak / scale),
                    xanchor="right",
                    yanchor="bottom",
                ),
                note(  # in the middle of its slope, where no other word stands
                    f"{plain(slopes[-1] / 1e9)} GB/s",
                    x=math.log10(low * peak / slopes[-1]) / 2,
                    y=math.log10(math.sqrt(low * peak * slopes[-1]) / scale),
                    xanchor="right",
                    yanchor="bottom",
                ),
            ],
        ),
        height_px=ROOFLINE_HEIGHT_PX,
        numbers=Numbers(
            tuple(map(say, ("head.arm", "head.pass", "head.intensity", "head.reached", "head.of-limit"))),
            tuple(_distance(work, names, scale, unit) for work in works),
        ),
    )


def _works(row: int, arm: ArmRecord, ceilings: Ceilings, peak: float) -> list[_Work]:
    limit = arm.limit
    step_bytes = None if limit.weight_bytes is None or limit.kv_bytes is None else limit.weight_bytes + limit.kv_bytes
    passes = (
        ("step", limit.flops, step_bytes, arm.itl_s.value),
        ("prefill", limit.prefill_flops, limit.prefill_bytes, arm.ttft_s.value),
    )
    return [
        _Work(row, kind, flops, read, seconds, bytes_per_s=slope, roof=min(peak, flops / read * slope))
        for kind, flops, read, seconds in passes
        if flops and read and seconds and (slope := ceilings.bytes_per_s(read))
    ]


def plain(value: float) -> str:
    """Three digits at least, never an exponent."""
    return f"{float(f'{value:.3g}'):,.12g}" if value < 1000 else f"{value:,.0f}"


def _flops_scale(peak: float) -> tuple[float, str]:
    return (1e12, "TFLOP/s") if peak >= 1e12 else (1e9, "GFLOP/s")


def _distance(work: _Work, names: tuple[str, ...], scale: float, unit: str) -> tuple[str, ...]:
    return (
        names[work.arm],
        say(f"kind.{work.kind}"),
        plain(work.intensity),
        f"{plain(work.rate / scale)} {unit}",
        format_value(work.rate / work.roof, "ratio"),
    )
