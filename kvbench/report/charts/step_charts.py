"""Charts of the single decode steps: how latency grows with the context, how it adds up, and how it spreads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from kvbench.arm import arm_names
from kvbench.capabilities import INTERRUPTED
from kvbench.records.run_record import RunRecord
from kvbench.report.charts.figures import Chart, Look, Trace, dots, figure, label, line, log_axis, scaled
from kvbench.report.charts.series import StepSeries, evenly
from kvbench.report.names import axis_scale
from kvbench.statistics import median
from kvbench.text import format_value

NO_STEPS = "The single decode steps were not kept (measure.step_lane=false, or the run ended before its first block)."
HEADROOM = 1.15  # of the axis above the highest line
EDGE = 1.05  # of a logarithmic axis beyond what is drawn
MOST_COLD_POINTS = 200
TALL = 3.0  # first visits that take so many times a warm step need a logarithmic axis


def latency_by_context(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> Chart:
    """Latency of a decode step against the tokens visible to it, the first visit's steps apart."""
    title = "Decode step latency against context length"
    if not steps:
        return Chart("latency", title, NO_STEPS)
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
                    hovertemplate="first visit: %{y:.4g} " + unit,
                    **shared,
                )
            )
    least_s = min(min(*series.median_s, *series.point_s) for series in steps)
    yaxis = (
        log_axis(least_s / HEADROOM / scale, ceiling_s / scale) if logarithmic else {"range": [0, ceiling_s / scale]}
    )
    return Chart(
        "latency",
        title,
        f"{_growth(steps, names)}{_cold(steps, names, cold)} Lines: median over blocks at each context length."
        f" Dots: single steps{_beyond(steps, ceiling_s)}.",
        figure(
            traces,
            xaxis={"title": {"text": "context length (tokens)"}},
            yaxis={"title": {"text": f"decode step ({unit}{', logarithmic' if logarithmic else ''})"}, **yaxis},
            hovermode="x unified",
            showlegend=True,
        ),
    )


def first_steps(record: RunRecord, arm: int) -> list[tuple[int, float]]:
    """Context length and seconds of every decode step of an arm's first visit; none of a run with interruptions."""
    if record.workload is None or _interrupted(record):
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
        if ttft_s is None or series.context_length[0] != prompt + 1:
            return None
        whole[series.arm] = (
            [1, *(length - prompt + 1 for length in series.context_length)],
            [ttft_s, *(ttft_s + seconds for seconds in series.elapsed_s)],
        )
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
    ends = "; ".join(f"{names[arm]} {format_value(seconds[-1], 's')}" for arm, (_, seconds) in whole.items())
    cold = "; ".join(f"{names[arm]} {format_value(seconds[-1], 's')}" for arm, (_, seconds) in first.items() if seconds)
    last = next(iter(whole.values()))[0][-1]
    return Chart(
        "cumulative",
        "Time until so many tokens are there",
        f"{last:,} new tokens take: {ends}. {_crossings(record, whole, names)}"
        + (f" Hollow: the first visit ({cold})." if cold else "")
        + " From the prompt on, prefill included; lines add up the medians of the single steps.",
        figure(
            traces,
            xaxis={"title": {"text": "new tokens"}, "rangemode": "tozero"},
            yaxis={"title": {"text": f"time ({unit})"}, "rangemode": "tozero"},
            hovermode="x unified",
            showlegend=True,
        ),
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
        pair = f"{names[comparison.candidate_arm]} has taken less time than {names[comparison.baseline_arm]}"
        if ahead == len(tokens):
            said.append(f"{pair} at no point to the end.")
        elif ahead == 0:
            said.append(f"{pair} from the first token on.")
        else:
            said.append(f"{pair} from new token {tokens[ahead]:,} on.")
    return " ".join(said)


def step_distribution(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> Chart:
    """How the single decode steps spread, as the share of steps that took no longer."""
    title = "Distribution of inter-token latency"
    if not steps:
        return Chart("distribution", title, NO_STEPS)
    names = arm_names(record.arms)
    scale, unit = axis_scale([max(_share_below(series, 0.5) for series in steps)], "s")
    traces = [
        line(
            looks[names[series.arm]],
            x=scaled(series.quantile_s, scale),
            y=scaled(series.quantile, 0.01),
            name=label(names[series.arm], names),
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
            xaxis={
                "title": {"text": f"decode step ({unit}, logarithmic)"},
                **log_axis(
                    min(series.quantile_s[0] for series in steps) / EDGE / scale,
                    max(series.quantile_s[-1] for series in steps) * EDGE / scale,
                ),
            },
            yaxis={"title": {"text": "share of steps (%)"}, "range": [0, 102]},
            showlegend=True,
        ),
    )


def _interrupted(record: RunRecord) -> bool:
    return any(arm.mode in INTERRUPTED or arm.turns for arm in record.arms)


def _share_below(series: StepSeries, share: float) -> float:
    return series.quantile_s[round(share * (len(series.quantile_s) - 1))]


def _growth(steps: Sequence[StepSeries], names: Sequence[str]) -> str:
    parts = [
        f"{names[series.arm]} takes {format_value(series.median_s[0], 's')} at {series.context_length[0]:,} tokens"
        f" and {format_value(series.median_s[-1], 's')} at {series.context_length[-1]:,}"
        for series in steps
    ]
    return "; ".join(parts) + "."


def _cold(steps: Sequence[StepSeries], names: Sequence[str], cold: Mapping[int, Sequence[tuple[int, float]]]) -> str:
    """How much longer the first visit's steps took, median against median."""
    said = [
        f"{names[series.arm]} {format_value(first_s, 's')}"
        f" ({format_value(first_s / _share_below(series, 0.5), 'times')} the later ones)"
        for series in steps
        if cold[series.arm]
        for first_s in [median([seconds for _, seconds in cold[series.arm]])]
    ]
    return f" Hollow: steps of the first visit, median {', '.join(said)}." if said else ""


def _beyond(steps: Sequence[StepSeries], ceiling_s: float) -> str:
    hidden = sum(seconds > ceiling_s for series in steps for seconds in series.point_s)
    drawn = sum(len(series.point_s) for series in steps)
    return f" ({hidden} of {drawn} lie above the chart)" if hidden else ""
