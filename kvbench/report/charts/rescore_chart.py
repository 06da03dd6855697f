"""The chart of decoding's log-probabilities beside those of one pass over the text, by position in the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kvbench.arm import arm_names
from kvbench.records.rescoring import Rescore, RescorePoint
from kvbench.records.run_record import RunRecord
from kvbench.report.charts.figures import NEUTRAL, Chart, Look, Numbers, Trace, figure, label, line, rule
from kvbench.report.rescored import rescore_word
from kvbench.report.sentences import say
from kvbench.text import UNKNOWN

BELOW = 10.0  # how far under everything else an exact zero is drawn
ROUNDING = Look(NEUTRAL, "dot", "circle")
HEADS = (
    *("head.arm", "head.output", "head.mean-difference", "head.largest-difference", "head.rounding-alone"),
    *("head.k1", "head.k3", "head.beyond-ratio", "head.drift"),
)


def rescored(record: RunRecord, looks: Mapping[str, Look]) -> Chart | None:
    """The chart of a run; None where nothing was scored again."""
    return rescore_chart(record.rescores, arm_names(record.arms), looks)


def rescore_chart(rescores: Sequence[Rescore], names: Sequence[str], looks: Mapping[str, Look]) -> Chart | None:
    """The mean absolute difference by position, a line for each of `names`, beside what another order of summing makes.

    None where nothing was compared. Exact zeros lie on a line of their own at the foot.
    """
    known = [each for each in rescores if each.by_position]
    if not known:
        return None
    beside = max(known, key=lambda each: each.noise_mean_abs or 0.0).by_position
    noise = [point for point in beside if point.rounding_mean_abs is not None]
    values = [point.mean_abs_difference for each in known for point in each.by_position]
    values += [point.rounding_mean_abs or 0.0 for point in noise]
    positive = [value for value in values if value > 0]
    zero = 10 ** math.floor(math.log10(min(positive))) / BELOW if positive else 1e-9
    top = max(positive, default=zero * 100)
    traces = [
        _trace(looks[names[each.arm]], label(names[each.arm], names), each.by_position, zero, "mean_abs_difference")
        for each in known
    ]
    if noise:
        traces.append(_trace(ROUNDING, say("head.rounding-alone"), noise, zero, "rounding_mean_abs"))
    ticks = [10.0**power for power in range(round(math.log10(zero)) + 1, math.ceil(math.log10(top)) + 1)]
    marks = [rule(x=each.first_beyond, dash="longdash") for each in known if each.first_beyond is not None]
    return Chart(
        "rescore",
        say("chart.rescore.title"),
        say("chart.rescore"),
        figure(
            traces,
            xaxis={"title": {"text": say("axis.position")}, "rangemode": "tozero"},
            yaxis={
                "title": {"text": say("axis.mean-difference")},
                "type": "log",
                "range": [math.log10(zero) - 0.4, math.log10(top) + 0.5],
                "tickvals": [zero, *ticks],
                "ticktext": ["0", *(f"1e{round(math.log10(tick))}" for tick in ticks)],
            },
            showlegend=True,
            shapes=marks,
        ),
        numbers=Numbers(tuple(map(say, HEADS)), tuple(_row(each, names[each.arm]) for each in known)),
    )


def _trace(look: Look, name: str, points: Sequence[RescorePoint], zero: float, field: str) -> Trace:
    values = [getattr(point, field) for point in points]
    return line(
        look,
        x=[point.position for point in points],
        y=[value or zero for value in values],
        mode="lines+markers",
        line={"width": 1.5},
        marker={"size": 5},
        customdata=[f"{value:.3g}" for value in values],
        hovertemplate=say("hover.at-position", figure="%{customdata}", position="%{x}"),
        name=name,
        legendgroup=name,
    )


def _row(found: Rescore, name: str) -> tuple[str, ...]:
    figures = (found.mean_abs_difference, found.max_abs_difference, found.noise_mean_abs, found.k1, found.k3)
    drift = UNKNOWN
    if found.drift_per_1000 is not None:
        drift = f"{found.drift_per_1000:.2g} [{found.drift_low:.2g}, {found.drift_high:.2g}]"
    return (
        name,
        rescore_word(found),
        *(UNKNOWN if value is None else f"{value:.3g}" for value in figures),
        UNKNOWN if found.share_over is None else f"{found.share_over:.2%}",
        drift,
    )
