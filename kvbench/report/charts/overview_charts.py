"""Charts over many runs. Each point names its rows of the overview's table, so that the page's filters apply to it.

A trace's `meta` holds `rows`, one entry per point: a row's number or a list of them. The layout's `meta` says what the
page may do with them: `runs`, where a point belongs to the run of these names that the trace's `meta.run` says, and
`grouped`, where points of one length may be drawn as their median.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kvbench.records.part import Estimate, Speedup
from kvbench.report.charts.figures import (
    AXES_HEIGHT_PX,
    DASHES,
    MARKERS,
    Chart,
    Look,
    Trace,
    bars,
    figure,
    interval,
    label,
    labels_of,
    line,
    log_axis,
    rule,
    scaled,
)
from kvbench.report.names import format_estimate
from kvbench.report.overview import Summary
from kvbench.report.sentences import joined, say
from kvbench.text import format_value

BAR_HEIGHT_PX = 22
BARS_SHARE = 0.85  # of a row
GAP_OF_RUNS = 0.6  # rows between the bars of two runs
MOST_BARS = 40  # runs beside each other, in the order of the table
MOST_SERIES = 8  # lines told apart by more than their arm; of more, the points of an arm are drawn without lines
MOST_TICKS = 10
WIDE = 20.0  # largest over smallest speed-up from which their axis is logarithmic
EDGE = 1.3  # of a logarithmic axis beyond what is drawn

Point = tuple[int, Speedup, int]  # prompt tokens, speed-up, row


def speed_by_run(runs: Sequence[Summary], labels: Sequence[str], looks: Mapping[str, Look]) -> Chart:
    """Decode tokens/s of every arm of every valid run, a bar beside the other without room for what is not there."""
    title = say("overview.speed.title")
    drawn: dict[str, list[tuple[int, Estimate, list[int]]]] = {}
    row = 0
    for position, run in enumerate(runs):
        for name, rate in run.rates if run.valid else ():
            rows = [row + offset for offset, each in enumerate(run.rows) if name in (each.arm, each.baseline)]
            if rate.value is not None:
                drawn.setdefault(name, []).append((position, rate, rows))
        row += len(run.rows)
    if not drawn:
        return Chart("speed-by-run", title, say("overview.chart.no-rate"))
    arms = sorted(drawn.items(), key=lambda item: list(looks).index(item[0]))
    slots, middles = _slots([[position for position, _, _ in mine] for _, mine in arms])
    rates = [
        bars(
            looks[name],
            width=BARS_SHARE,
            name=label(name, tuple(drawn)),
            y=slots[number],
            x=scaled((rate.value or 0.0 for _, rate, _ in mine), 1),
            error_x=_whiskers([rate for _, rate, _ in mine]),
            customdata=[format_estimate(rate, "tokens/s") for _, rate, _ in mine],
            hovertemplate="%{customdata}",
            meta={
                "rows": [rows[0] if len(rows) == 1 else rows for _, _, rows in mine],
                "run": [position for position, _, _ in mine],
            },
        )
        for number, (name, mine) in enumerate(arms)
    ]
    shown = list(middles)[:MOST_BARS]
    last = max(
        slot
        for mine, (_, points) in zip(slots, arms, strict=True)
        for slot, (run, _, _) in zip(mine, points, strict=True)
        if run in shown
    )
    valid = sum(run.valid for run in runs)
    return Chart(
        "speed-by-run",
        title,
        joined(
            say("overview.chart.speed", valid=f"{valid:,}"),
            say("overview.chart.left-out", count=f"{len(runs) - valid:,}") if valid < len(runs) else "",
        ),
        figure(
            rates,
            xaxis={"title": {"text": say("axis.rate")}, "rangemode": "tozero"},
            yaxis={
                "tickmode": "array",
                "tickvals": [middles[run] for run in shown],
                "ticktext": labels_of([labels[run] for run in shown]),
                "range": [last + 0.7, -0.7],
                "showgrid": False,
                "zeroline": False,
            },
            showlegend=True,
            meta={"runs": labels_of(labels), "most": MOST_BARS, "row_height": BAR_HEIGHT_PX, "gap": GAP_OF_RUNS},
        ),
        height_px=AXES_HEIGHT_PX + round(BAR_HEIGHT_PX * max(last + 1.4, 5)),
        switched="xaxis",
    )


def _slots(positions: Sequence[Sequence[int]]) -> tuple[list[list[float]], dict[int, float]]:
    """Where every bar of every arm lies, run after run, and the middle of each run's bars."""
    bars_of: dict[int, list[tuple[int, int]]] = {}
    for arm, mine in enumerate(positions):
        for place, run in enumerate(mine):
            bars_of.setdefault(run, []).append((arm, place))
    slots = [[0.0] * len(mine) for mine in positions]
    middles: dict[int, float] = {}
    at = 0.0
    for run in sorted(bars_of):
        for offset, (arm, place) in enumerate(bars_of[run]):
            slots[arm][place] = at + offset
        middles[run] = at + (len(bars_of[run]) - 1) / 2
        at += len(bars_of[run]) + GAP_OF_RUNS
    return slots, middles


def speedup_by_prompt(runs: Sequence[Summary], series: Sequence[str], looks: Mapping[str, Look]) -> Chart | None:
    """Speed-up against prompt tokens over the valid runs; None when the prompt length does not vary.

    `series` holds one name per run for what else sets it apart: only runs of one series are joined by a line.
    """
    together = len(set(series)) > MOST_SERIES
    points: dict[tuple[str, str], list[Point]] = {}
    row = -1
    for run, name in zip(runs, series, strict=True):
        for each in run.rows:
            row += 1
            if each.speedup is not None and each.speedup.value is not None and run.sizes[0] is not None:
                drawn = points.setdefault(("" if together else name, each.arm), [])
                drawn.append((run.sizes[0], each.speedup, row))
    lengths = sorted({length for drawn in points.values() for length, _, _ in drawn})
    if len(lengths) < 2:
        return None
    ratios = [ratio.value for drawn in points.values() for _, ratio, _ in drawn if ratio.value] or [1.0]
    wide = max(ratios) > WIDE * min(ratios)
    axis = log_axis(min(ratios) / EDGE, max(ratios) * EDGE) if wide else {"rangemode": "tozero"}
    best_length, best, _ = max((point for drawn in points.values() for point in drawn), key=lambda p: p[1].value or 0.0)
    return Chart(
        "speedup-by-prompt",
        say("overview.speedup.title"),
        joined(
            say("overview.chart.speedup", best=format_value(best.value, "times"), length=f"{best_length:,}"),
            say("overview.chart.unlike") if together else "",
        ),
        figure(
            _lines(points, looks, joined_up=not together),
            xaxis={"title": {"text": say("axis.prompt.log")}, "type": "log", **_ticks(lengths)},
            yaxis={"title": {"text": say("axis.speedup.log" if wide else "axis.speedup")}, **axis},
            showlegend=True,
            shapes=[rule(y=1)],
            meta={"grouped": True},
        ),
        switched="yaxis",
    )


def _lines(
    points: Mapping[tuple[str, str], Sequence[Point]], looks: Mapping[str, Look], *, joined_up: bool
) -> list[Trace]:
    drawn: Counter[str] = Counter()  # lines of each candidate so far
    names = {key: " · ".join(filter(None, reversed(key))) for key in points}
    lines = []
    for (name, candidate), mine in points.items():
        shown = label(names[name, candidate], tuple(names.values()))
        mode = "lines+markers" if joined_up else "markers"
        lines.append(_line(shown, mine, _told_apart(looks[candidate], drawn[candidate]), mode))
        drawn[candidate] += 1
    return lines


def _told_apart(look: Look, number: int) -> Look:
    """The first line of a candidate has its look, further ones other dashes and markers in its colour."""
    dash, marker = DASHES.index(look.dash) + number, MARKERS.index(look.marker) + number
    return Look(look.colour, DASHES[dash % len(DASHES)], MARKERS[marker % len(MARKERS)])


def _line(name: str, drawn: Sequence[Point], look: Look, mode: str) -> Trace:
    ordered = sorted(drawn, key=lambda point: point[0])
    return line(
        look,
        x=[length for length, _, _ in ordered],
        y=scaled((ratio.value or 0.0 for _, ratio, _ in ordered), 1),
        error_y=_whiskers([ratio for _, ratio, _ in ordered]),
        mode=mode,
        name=name,
        hovertemplate=say("hover.at-tokens", figure="%{y:.4g}×", count="%{x:,}"),
        meta={"rows": [row for _, _, row in ordered]},
    )


def _whiskers(figures: Sequence[Estimate | Speedup]) -> dict[str, Any]:
    whiskers = interval([(each.value, each.ci_low, each.ci_high) for each in figures])
    return whiskers | {side: scaled(whiskers[side], 1) for side in ("array", "arrayminus")}


def _ticks(lengths: Sequence[int]) -> dict[str, Any]:
    return {"tickvals": lengths, "ticktext": [f"{n:,}" for n in lengths]} if len(lengths) <= MOST_TICKS else {}
