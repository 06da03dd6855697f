"""Charts of the single decode steps: how latency grows with the context, how it adds up, and how it spreads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from kvbench.arm import arm_names
from kvbench.capabilities import INTERRUPTED
from kvbench.records.run_record import RunRecord
from kvbench.report.charts.figures import (
    CHART_HEIGHT_PX,
    Chart,
    Look,
    Numbers,
    Trace,
    dots,
    figure,
    figures_of,
    interval,
    label,
    line,
    log_axis,
    scaled,
)
from kvbench.report.charts.ratio_panel import HEIGHT_PX as RATIO_PX
from kvbench.report.charts.ratio_panel import Ratio, ratio_of, ratio_panel
from kvbench.report.charts.series import StepSeries, evenly
from kvbench.report.names import axis_scale, format_estimate
from kvbench.report.sentences import joined, say
from kvbench.report.verdicts import is_result
from kvbench.statistics import median
from kvbench.text import format_value

HEADROOM = 1.15  # of the axis above the highest line
EDGE = 1.05  # of a logarithmic axis beyond what is drawn
MOST_COLD_POINTS = 200
TALL = 3.0  # first visits that take so many times a warm step need a logarithmic axis


def latency_by_context(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> Chart:
    """Latency of a decode step against the tokens visible to it, the first visit's steps apart."""
    title = say("chart.latency.title")
    if not steps:
        return Chart("latency", title, say("chart.no-steps"))
    names = arm_names(record.arms)
    cold = {series.arm: first_steps(record, series.arm) for series in steps}
    warm_s = max(max(max(series.median_s), _share_below(series, 0.99)) for series in steps)
    cold_s = max((seconds for points in cold.values() for _, seconds in points), default=0.0)
    logarithmic = cold_s > TALL * warm_s
    ceiling_s = HEADROOM * max(warm_s, cold_s)
    scale, unit = axis_scale([warm_s], "s")
    traces: list[Trace] = []
    for series in steps:
        look = looks[names[series.arm]]
        shared: Trace = {"name": label(names[series.arm], names), "legendgroup": str(series.arm)}
        traces.append(
            dots(
                look,
                x=series.point_context_length,
                y=scaled(series.point_s, scale),
                marker={"symbol": "circle", "size": 3, "opacity": 0.35},
                showlegend=False,
                hoverinfo="skip",
                **shared,
            )
        )
        traces.append(
            line(
                look,
                x=series.context_length,
                y=scaled(series.median_s, scale),
                hovertemplate="%{y:.4g} " + unit,
                **shared,
            )
        )
        points = [cold[series.arm][index] for index in evenly(len(cold[series.arm]), MOST_COLD_POINTS)]
        if points:
            traces.append(
                dots(
                    look,
                    hollow=True,
                    x=[length for length, _ in points],
                    y=scaled((seconds for _, seconds in points), scale),
                    marker={"size": 6, "line": {"width": 1}},
                    showlegend=False,
                    hovertemplate=say("hover.first-generation", time=f"%{{y:.4g}} {unit}"),
                    **shared,
                )
            )
    least_s = min(min(*series.median_s, *series.point_s) for series in steps)
    yaxis = (
        log_axis(least_s / HEADROOM / scale, ceiling_s / scale) if logarithmic else {"range": [0, ceiling_s / scale]}
    )
    ratios = _ratios(record, steps, looks)
    below, layout = ratio_panel(
        ratios, {"title": {"text": say("axis.step.log" if logarithmic else "axis.step", unit=unit)}, **yaxis}
    )
    return Chart(
        "latency",
        title,
        joined(
            say("chart.latency", beyond=_beyond(steps, ceiling_s)),
            say("chart.latency.first") if any(cold.values()) else "",
            say("chart.ratio", baseline=names[record.comparisons[0].baseline_arm]) if ratios else "",
        ),
        figure(
            [*traces, *below],
            xaxis={"title": {"text": say("axis.context")}, **({"anchor": "y2"} if ratios else {})},
            hovermode="x unified",
            showlegend=True,
            **layout,
        ),
        height_px=CHART_HEIGHT_PX + RATIO_PX * bool(ratios),
        numbers=_latencies(steps, names, cold),
        switched="yaxis",
    )


def _ratios(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> list[Ratio]:
    """Of every pair that is a result: medians at the context lengths that both have."""
    names = arm_names(record.arms)
    medians = {
        series.arm: dict(zip(map(float, series.context_length), series.median_s, strict=True)) for series in steps
    }
    found = [
        ratio_of(
            label(names[each.candidate_arm], names),
            looks[names[each.candidate_arm]],
            medians[each.baseline_arm],
            medians[each.candidate_arm],
        )
        for each in record.comparisons
        if is_result(record, each) and {each.baseline_arm, each.candidate_arm} <= medians.keys()
    ]
    return [each for each in found if each is not None]


def turns(record: RunRecord, looks: Mapping[str, Look]) -> Chart | None:
    """Time to the first token after each interruption, arm by arm; None for a run without any."""
    told = [(name, arm.turns) for name, arm in zip(arm_names(record.arms), record.arms, strict=True) if arm.turns]
    values = [each for _, mine in told for turn in mine for each in figures_of(turn.ttft_s) if each is not None]
    if not values:
        return None
    scale, unit = axis_scale([max(values)], "s")
    names = tuple(name for name, _ in told)
    traces = [
        line(
            looks[name],
            x=[turn.context_length for turn in known],
            y=scaled((turn.ttft_s.value or 0.0 for turn in known), scale),
            error_y=interval([figures_of(turn.ttft_s, scale) for turn in known]),
            mode="lines+markers",
            name=label(name, names),
            hovertemplate="%{y:.4g} " + unit,
        )
        for name, mine in told
        if (known := [turn for turn in mine if turn.ttft_s.value is not None])
    ]
    return Chart(
        "turns",
        say("chart.turns.title"),
        say("chart.turns"),
        figure(
            traces,
            xaxis={"title": {"text": say("axis.context")}},
            yaxis={"title": {"text": say("axis.first-token", unit=unit)}, "rangemode": "tozero"},
            showlegend=True,
        ),
        numbers=Numbers(
            (
                say("head.arm"),
                *(say("head.at-tokens", count=f"{turn.context_length:,}") for turn in told[0][1]),
            ),
            tuple((name, *(format_estimate(turn.ttft_s, "s") for turn in mine)) for name, mine in told),
        ),
        switched="yaxis",
    )


def first_steps(record: RunRecord, arm: int) -> list[tuple[int, float]]:
    """Context length and seconds of every decode step of an arm's first visit; none of a run with interruptions."""
    if record.workload is None or _interrupted(record) or record.arms[arm].proposes:
        return []
    prompts, size = record.workload.prompt_tokens, record.workload.batch_size
    found = []
    for batch, seconds in enumerate(record.arms[arm].cold.step_s):
        members = prompts[batch * size : (batch + 1) * size]
        if members:
            found += [(max(members) + step, each) for step, each in enumerate(seconds, start=1)]
    return found


def cumulative_time(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> Chart | None:
    """Seconds until so many new tokens are there: TTFT and the medians of the single steps, and the first visit.

    None where the steps do not form one generation: prompts of several lengths, a cache that is rebuilt, no steps.
    """
    workload = record.workload
    if workload is None or not steps or _interrupted(record) or len(set(workload.prompt_tokens)) != 1:
        return None
    prompt = workload.prompt_tokens[0]
    names = arm_names(record.arms)
    whole: dict[int, tuple[list[int], list[float]]] = {}
    for series in steps:
        ttft_s = record.arms[series.arm].ttft_s.value
        if record.arms[series.arm].proposes:  # whose passes make several tokens each
            continue
        if ttft_s is None or series.context_length[0] != prompt + 1:
            return None
        whole[series.arm] = (
            [1, *(length - prompt + 1 for length in series.context_length)],
            [ttft_s, *(ttft_s + seconds for seconds in series.elapsed_s)],
        )
    if not whole:
        return None
    first = {arm: _first_visit(record, arm) for arm in whole}
    scale, unit = axis_scale([max(seconds[-1] for _, seconds in [*whole.values(), *first.values()] if seconds)], "s")
    traces: list[Trace] = []
    for arm, (tokens, seconds) in whole.items():
        look = looks[names[arm]]
        shared: Trace = {"legendgroup": str(arm), "hovertemplate": f"%{{y:.4g}} {unit}"}
        traces.append(line(look, x=tokens, y=scaled(seconds, scale), name=label(names[arm], names), **shared))
        tokens, seconds = first[arm]
        if tokens:
            kept = evenly(len(tokens), MOST_COLD_POINTS // 10)
            traces.append(
                dots(
                    look,
                    hollow=True,
                    x=[tokens[index] for index in kept],
                    y=scaled((seconds[index] for index in kept), scale),
                    name=label(names[arm], names),
                    marker={"size": 6, "line": {"width": 1}},
                    showlegend=False,
                    **shared,
                )
            )
    last = next(iter(whole.values()))[0][-1]
    return Chart(
        "cumulative",
        say("chart.cumulative.until.title"),
        joined(
            say("chart.cumulative"),
            _crossings(record, whole, names),
            say("chart.hollow-first") if any(seconds for _, seconds in first.values()) else "",
        ),
        figure(
            traces,
            xaxis={"title": {"text": say("axis.new-tokens")}, "rangemode": "tozero"},
            yaxis={"title": {"text": say("axis.time", unit=unit)}, "rangemode": "tozero"},
            hovermode="x unified",
            showlegend=True,
        ),
        numbers=Numbers(
            (say("head.arm"), say("count.new-tokens", count=f"{last:,}"), say("head.first-generation")),
            tuple(
                (
                    names[arm],
                    format_value(seconds[-1], "s"),
                    format_value(first[arm][1][-1] if first[arm][1] else None, "s"),
                )
                for arm, (_, seconds) in whole.items()
            ),
        ),
        switched="yaxis",
    )


def _first_visit(record: RunRecord, arm: int) -> tuple[list[int], list[float]]:
    """New tokens and seconds of an arm's first generation."""
    cold = record.arms[arm].cold
    # Beside seconds of compiling no step could be seen.
    if cold.ttft_s is None or not cold.step_s or record.arms[arm].repeats:
        return [], []
    seconds = list(accumulate(cold.step_s[0], initial=cold.ttft_s))
    return list(range(1, len(seconds) + 1)), seconds


def _crossings(
    record: RunRecord, whole: Mapping[int, tuple[Sequence[int], Sequence[float]]], names: Sequence[str]
) -> str:
    """From which new token on a candidate has taken less time than its baseline, and does to the end."""
    said = []
    for comparison in record.comparisons:
        if comparison.baseline_arm not in whole or comparison.candidate_arm not in whole:
            continue
        tokens, theirs = whole[comparison.baseline_arm]
        others, ours = whole[comparison.candidate_arm]
        if tokens != others:
            continue
        ahead = len(tokens)
        while ahead and ours[ahead - 1] < theirs[ahead - 1]:
            ahead -= 1
        pair = {"candidate": names[comparison.candidate_arm], "baseline": names[comparison.baseline_arm]}
        if ahead == len(tokens):
            said.append(say("chart.overtakes.never", count=f"{tokens[-1]:,}", **pair))
        elif ahead == 0:
            said.append(say("chart.overtakes.first-token", **pair))
        else:
            said.append(say("chart.overtakes.from", count=f"{tokens[ahead]:,}", **pair))
    return joined(*said)


def step_distribution(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> Chart:
    """How the single decode steps spread, as the share of steps that took no longer."""
    title = say("chart.distribution.title")
    if not steps:
        return Chart("distribution", title, say("chart.no-steps"))
    names = arm_names(record.arms)
    scale, unit = axis_scale([max(_share_below(series, 0.5) for series in steps)], "s")
    traces = [
        line(
            looks[names[series.arm]],
            x=scaled(series.quantile_s, scale),
            y=scaled(series.quantile, 0.01),
            name=label(names[series.arm], names),
            hovertemplate=say("hover.share", share="%{y:.1f} %", time=f"%{{x:.4g}} {unit}"),
        )
        for series in steps
    ]
    return Chart(
        "distribution",
        title,
        say("chart.distribution"),
        figure(
            traces,
            xaxis={
                "title": {"text": say("axis.step.log", unit=unit)},
                **log_axis(
                    min(series.quantile_s[0] for series in steps) / EDGE / scale,
                    max(series.quantile_s[-1] for series in steps) * EDGE / scale,
                ),
            },
            yaxis={"title": {"text": say("axis.share")}, "range": [0, 102]},
            showlegend=True,
        ),
        numbers=Numbers(
            tuple(map(say, ("head.arm", "head.median", "head.within-95"))),
            tuple(
                (names[series.arm], *(format_value(_share_below(series, share), "s") for share in (0.5, 0.95)))
                for series in steps
            ),
        ),
        switched="xaxis",
    )


def _interrupted(record: RunRecord) -> bool:
    return any(arm.mode in INTERRUPTED or arm.turns for arm in record.arms)


def _share_below(series: StepSeries, share: float) -> float:
    return series.quantile_s[round(share * (len(series.quantile_s) - 1))]


LATENCY_HEADS = (
    *("head.arm", "head.shortest-context", "head.longest-context", "head.first-generation", "head.of-later"),
)


def _latencies(
    steps: Sequence[StepSeries], names: Sequence[str], cold: Mapping[int, Sequence[tuple[int, float]]]
) -> Numbers:
    """The medians at both ends, and how long a step of the first generation took, median against median."""
    rows = []
    for series in steps:
        first_s = median([seconds for _, seconds in cold[series.arm]]) if cold[series.arm] else None
        times = None if first_s is None else first_s / _share_below(series, 0.5)
        rows.append(
            (
                names[series.arm],
                *(
                    say(
                        "hover.at",
                        figure=format_value(series.median_s[end], "s"),
                        count=f"{series.context_length[end]:,}",
                    )
                    for end in (0, -1)
                ),
                format_value(first_s, "s"),
                format_value(times, "times"),
            )
        )
    return Numbers(tuple(map(say, LATENCY_HEADS)), tuple(rows))


def _beyond(steps: Sequence[StepSeries], ceiling_s: float) -> str:
    hidden = sum(seconds > ceiling_s for series in steps for seconds in series.point_s)
    drawn = sum(len(series.point_s) for series in steps)
    return say("chart.latency.beyond", hidden=hidden, drawn=drawn) if hidden else ""
