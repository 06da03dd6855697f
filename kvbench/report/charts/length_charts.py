"""Charts of what depends on the length: which sizes fit, and the laws by which a step grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.records.scaling import Axis, BreakEven, FrontierEdge, Growth, Law
from kvbench.report.charts.figures import (
    AXES_HEIGHT_PX,
    CHART_HEIGHT_PX,
    ROW_HEIGHT_PX,
    Chart,
    Look,
    Numbers,
    Trace,
    band,
    count_ticks,
    dots,
    figure,
    figures_of,
    interval,
    label,
    line,
    log_axis,
    note,
    rule,
    scaled,
    stacked,
)
from kvbench.report.charts.ratio_panel import HEIGHT_PX as RATIO_PX
from kvbench.report.charts.ratio_panel import Ratio, ratio_of, ratio_panel
from kvbench.report.charts.series import evenly
from kvbench.report.lengths import by_law, crossing, law_s, law_text
from kvbench.report.names import axis_scale, format_estimate
from kvbench.report.sentences import joined, own_words, say
from kvbench.report.verdicts import is_result
from kvbench.text import UNKNOWN, format_value, printable

# The chart of what fits: the largest context and batch of every arm, predicted and found.


EDGE = 1.6  # of the axis beyond what is drawn

AXES: tuple[Axis, ...] = ("context", "batch")


FRONTIER_HEADS = (*("head.arm", "head.along", "head.at", "head.found", "head.predicted", "head.error", "head.remark"),)


def frontier(record: RunRecord, looks: Mapping[str, Look]) -> Chart | None:
    """Predicted and found edges by axis; None where the run looked for none."""
    if record.frontier is None or not record.frontier.edges:
        return None
    key, title = "frontier", say("heading.sizes")
    names, edges = arm_names(record.arms), record.frontier.edges
    panels = [
        (axis, mine)
        for axis in AXES
        if (mine := [edge for edge in edges if edge.axis == axis and (edge.found or edge.predicted)])
    ]
    rows = tuple(_edge_row(edge, names) for edge in edges)
    numbers = Numbers(tuple(map(say, FRONTIER_HEADS)), rows)
    if not panels:
        return Chart(
            key, title, joined(*(say("edge.remark", name=row[0], remark=row[-1]) for row in rows)), numbers=numbers
        )
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
            "title": {"text": say(f"axis.largest-{axis}")},
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
        say("chart.frontier"),
        figure(traces, showlegend=False, margin={"l": 12, "r": 16, "t": 12, "b": 52}, **layout),
        height_px=AXES_HEIGHT_PX * len(panels) + ROW_HEIGHT_PX * most * len(panels),
        numbers=numbers,
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
    for size, code, own in (
        (edge.found_above, "hover.does-not-fit", {"symbol": "x-thin-open", "size": 10, "line": {"width": 2}}),
        (edge.predicted, "hover.predicted", {"symbol": f"{look.marker}-open", "size": 14, "line": {"width": 1.5}}),
        (edge.found, "hover.found", {"size": 10}),
    ):
        if size:
            hover = say(code, name=name, size="%{x:,}") + "<extra></extra>"
            traces.append(dots(look, x=[size], y=[place], marker=own, hovertemplate=hover, **axes))
    return traces


def _short(edge: FrontierEdge) -> str:
    found = say("edge.nothing-found") if edge.found is None else f"{edge.found:,}"
    return found if edge.predicted is None else say("edge.short", found=found, predicted=f"{edge.predicted:,}")


def _axis(edges: list[FrontierEdge]) -> dict[str, Any]:
    sizes = [size for edge in edges for size in (edge.found, edge.predicted, edge.found_above) if size]
    return log_axis(min(sizes) / EDGE, max(sizes) * EDGE)


def _edge_row(edge: FrontierEdge, names: tuple[str, ...]) -> tuple[str, ...]:
    sizes = (UNKNOWN if size is None else f"{size:,}" for size in (edge.found, edge.predicted))
    return (
        names[edge.arm],
        say(f"edge.axis.{edge.axis}"),
        say("count.context" if edge.axis == "batch" else "count.batch", count=f"{edge.fixed:,}"),
        *sizes,
        UNKNOWN if edge.error is None else f"{'+' if edge.error > 0 else ''}{format_value(edge.error, 'ratio')}",
        own_words(printable(edge.detail)) if edge.found is None else "",
    )


# Charts of a run over several lengths: the laws by which a step grows, where they cross, and what they add up to.


LINE_POINTS = 80
MOST_DECODE_POINTS = 200
HEADROOM = 1.15


def total_s(law: Law, prompt_tokens: int, new_tokens: int) -> float:
    """Seconds of the steps after the first token, by a law: at contexts prompt + 1 to prompt + new tokens - 1."""
    return float(by_law(law, prompt_tokens + np.arange(1, new_tokens, dtype=float)).sum())


def latency_by_law(record: RunRecord, growth: Growth, looks: Mapping[str, Look]) -> Chart:
    """ITL at every length with its interval, the fitted laws, and a real decode's steps on top."""
    names = arm_names(record.arms)
    values = [value for point in growth.points for value in figures_of(point.itl_s) if value is not None]
    title = say("chart.latency.title")
    if not values:
        return Chart("latency", title, say("chart.no-law"))
    seconds = [each for decode in growth.decodes for each in (*decode.first_step_s, *decode.second_step_s)]
    ceiling_s = HEADROOM * max(max(values), *np.quantile(seconds, [0.95]) if seconds else (0.0,))
    scale, unit = axis_scale([ceiling_s], "s")
    traces: list[Trace] = []
    for arm, name in enumerate(names):
        traces += _of_arm(growth, arm, label(name, names), looks[name], scale, unit)
    ratios = _ratios(record, growth, looks)
    below, layout = ratio_panel(
        ratios, {"title": {"text": say("axis.step", unit=unit)}, "range": [0, ceiling_s / scale]}
    )
    marks = break_even_marks(growth.break_evens, growth.shortest, growth.longest)
    return Chart(
        "latency",
        title,
        joined(
            *(
                say("chart.break-even", name=names[each.candidate_arm], detail=crossing(record, each))
                for each in growth.break_evens
                if each.context_length is None  # else the chart itself has a mark
            ),
            say("chart.law"),
            say("chart.law.decodes") if growth.decodes else "",
            say("chart.ratio", baseline=names[record.comparisons[0].baseline_arm]) if ratios else "",
        ),
        figure(
            [*traces, *below],
            xaxis={
                "title": {"text": say("axis.context")},
                "rangemode": "tozero",
                **({"anchor": "y2"} if ratios else {}),
            },
            showlegend=True,
            **{**marks, **layout, "shapes": [*marks["shapes"], *layout.get("shapes", [])]},
        ),
        height_px=CHART_HEIGHT_PX + RATIO_PX * bool(ratios),
        numbers=Numbers(
            (
                say("head.arm"),
                say("head.law"),
                say("head.range", shortest=f"{growth.shortest:,.0f}", longest=f"{growth.longest:,.0f}"),
                say("growth.order"),
            ),
            tuple(
                (names[law.arm], law_text(law), format_estimate(law.growth, "times"), say(f"order.{law.order}"))
                for law in growth.laws
            ),
        ),
        switched="yaxis",
    )


def _ratios(record: RunRecord, growth: Growth, looks: Mapping[str, Look]) -> list[Ratio]:
    """By the laws, over the range measured."""
    names = arm_names(record.arms)
    lengths = [float(each) for each in np.linspace(growth.shortest, growth.longest, LINE_POINTS)]
    seconds = {law.arm: {length: law_s(law, length) for length in lengths} for law in growth.laws}
    found = [
        ratio_of(
            label(names[each.candidate_arm], names),
            looks[names[each.candidate_arm]],
            seconds[each.baseline_arm],
            seconds[each.candidate_arm],
        )
        for each in record.comparisons
        if is_result(record, each) and {each.baseline_arm, each.candidate_arm} <= seconds.keys()
    ]
    return [each for each in found if each is not None]


def cumulative_by_law(record: RunRecord, growth: Growth, looks: Mapping[str, Look]) -> Chart | None:
    """Seconds of N new tokens from the shortest prompt, by the laws; None where no total was computed."""
    workload = record.workload
    values = [value for total in growth.totals for value in figures_of(total.seconds) if value is not None]
    if workload is None or not values:
        return None
    prompt = min(workload.prompt_tokens)
    names = arm_names(record.arms)
    scale, unit = axis_scale([max(values)], "s")
    traces: list[Trace] = []
    for law in growth.laws:
        look, totals = looks[names[law.arm]], [total for total in growth.totals if total.arm == law.arm]
        shared: Trace = {"name": label(names[law.arm], names), "legendgroup": str(law.arm)}
        first, last = (choose(total.new_tokens for total in totals) for choose in (min, max))
        counts = sorted({round(each) for each in np.geomspace(first, last, LINE_POINTS)})
        sums = [(count, total_s(law, prompt, count)) for count in counts]
        drawn = [(count, each) for count, each in sums if each > 0]
        traces.append(
            line(
                look,
                x=[count for count, _ in drawn],
                y=scaled((each for _, each in drawn), scale),
                hoverinfo="skip",
                **shared,
            )
        )
        for beyond in (False, True):
            some = [total for total in totals if total.beyond_range is beyond and total.seconds.value is not None]
            if some:
                traces.append(
                    dots(
                        look,
                        hollow=beyond,
                        x=[total.new_tokens for total in some],
                        y=scaled((float(total.seconds.value or 0.0) for total in some), scale),
                        error_y=interval([figures_of(total.seconds, scale) for total in some]),
                        customdata=[format_estimate(total.seconds, "s") for total in some],
                        hovertemplate=say("hover.total", count="%{x:,}", figure="%{customdata}"),
                        showlegend=False,
                        **shared,
                    )
                )
    most = max(total.new_tokens for total in growth.totals)
    beyond = any(total.beyond_range for total in growth.totals)
    overtaken = {
        each.candidate_arm: _overtakes(growth, each.baseline_arm, each.candidate_arm, prompt, most)
        for each in growth.break_evens
    }
    return Chart(
        "cumulative",
        say("chart.cumulative.title"),
        joined(
            say("chart.cumulative.law", prompt=f"{prompt:,}"),
            _overtaking(overtaken, names, most),
            say("chart.cumulative.beyond") if beyond else "",
        ),
        figure(
            traces,
            xaxis={
                "title": {"text": say("axis.new-tokens.log")},
                **count_ticks(total.new_tokens for total in growth.totals),
            },
            shapes=[rule(x=count, dash="dash") for count in overtaken.values() if count is not None and count > 2],
            yaxis={
                "title": {"text": say("axis.time.log", unit=unit)},
                **log_axis(min(values) / HEADROOM / scale, max(values) * HEADROOM / scale),
            },
            showlegend=True,
        ),
        numbers=Numbers(
            (say("head.arm"), say("count.new-tokens", count=f"{most:,}")),
            tuple(
                (names[total.arm], format_estimate(total.seconds, "s"))
                for total in growth.totals
                if total.new_tokens == most
            ),
        ),
        switched="yaxis",
    )


def _overtakes(growth: Growth, baseline: int, candidate: int, prompt_tokens: int, most: int) -> int | None:
    """From which new token on a candidate has taken less time than the baseline, by the laws, and does up to `most`.

    2 is the first token that a decode step makes; None where it has not at the end.
    """
    contexts = prompt_tokens + np.arange(1, most, dtype=float)
    spent = {}
    for law in growth.laws:
        if law.arm in (baseline, candidate):
            spent[law.arm] = np.cumsum(by_law(law, contexts))
    if len(spent) < 2:
        return None
    behind = np.flatnonzero(spent[candidate] >= spent[baseline])
    if not len(behind):
        return 2
    return None if behind[-1] == len(contexts) - 1 else int(behind[-1]) + 3


def _overtaking(overtaken: Mapping[int, int | None], names: Sequence[str], most: int) -> str:
    said = []
    for arm, count in overtaken.items():
        pair = {"candidate": names[arm], "baseline": names[0]}
        if count is None:
            said.append(say("chart.overtakes.never", count=f"{most:,}", **pair))
        elif count == 2:
            said.append(say("chart.overtakes.always", **pair))
        else:
            said.append(say("chart.overtakes.from", count=f"{count:,}", **pair))
    return joined(*said)


def break_even_marks(found: Sequence[BreakEven], shortest: float, longest: float) -> dict[str, Any]:
    """A line where a candidate's step becomes the faster one, and a shade over its interval; an open end is drawn
    to the end of what was measured."""
    shapes, notes = [], []
    for each in found:
        if each.context_length is None:
            continue
        low = shortest if each.ci_low is None else each.ci_low
        high = longest if each.ci_high is None else each.ci_high
        shapes += [band(low, high), rule(x=each.context_length, dash="dash")]
        notes.append(
            note(
                say("note.break-even", length=f"{each.context_length:,.0f}"),
                x=each.context_length,
                yref="paper",
                y=1,
                yanchor="top",
                xanchor="left" if each.context_length < (shortest + longest) / 2 else "right",
            )
        )
    return {"shapes": shapes, "annotations": notes}


def _of_arm(growth: Growth, arm: int, name: str, look: Look, scale: float, unit: str) -> list[Trace]:
    shared: Trace = {"name": name, "legendgroup": str(arm)}
    traces: list[Trace] = []
    for decode in growth.decodes:
        if decode.arm == arm:
            for seconds, hollow in ((decode.first_step_s, True), (decode.second_step_s, False)):
                kept = evenly(len(seconds), MOST_DECODE_POINTS)
                traces.append(
                    dots(
                        look,
                        hollow=hollow,
                        x=[decode.prompt_tokens + 1 + index for index in kept],
                        y=scaled((seconds[index] for index in kept), scale),
                        marker={"size": 4, "opacity": 0.45, "line": {"width": 1 if hollow else 0}},
                        hovertemplate=say(
                            "hover.decode-first" if hollow else "hover.decode-second", time=f"%{{y:.4g}} {unit}"
                        ),
                        showlegend=False,
                        **shared,
                    )
                )
    for law in growth.laws:
        lengths = [float(each) for each in np.linspace(growth.shortest, growth.longest, LINE_POINTS)]
        if law.arm == arm:
            traces.append(
                line(
                    look,
                    x=scaled(lengths, 1),
                    y=scaled((law_s(law, length) for length in lengths), scale),
                    hoverinfo="skip",
                    **shared,
                )
            )
    points = [point for point in growth.points if point.arm == arm and point.itl_s.value is not None]
    traces.append(
        dots(
            look,
            x=[point.context_length for point in points],
            y=scaled((float(point.itl_s.value or 0.0) for point in points), scale),
            error_y=interval([figures_of(point.itl_s, scale) for point in points]),
            customdata=[format_estimate(point.itl_s, "s") for point in points],
            hovertemplate=say("hover.at-tokens", figure="%{customdata}", count="%{x:,}"),
            showlegend=False,
            **shared,
        )
    )
    return traces
