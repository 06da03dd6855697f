"""Charts of a comparison: speed by arm, and whether the arms compute the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kvbench.arm import arm_names
from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.agreement_figures import Agreement, AgreementStep
from kvbench.records.run_record import Comparison, RunRecord
from kvbench.report.charts.figures import (
    FAINT,
    WARNING,
    Chart,
    Look,
    Numbers,
    Trace,
    band,
    bars,
    dots,
    figure,
    figures_of,
    interval,
    label,
    line,
    log_axis,
    named_rows,
    note,
    rows_height,
    rule,
)
from kvbench.report.charts.series import BlockSeries, evenly
from kvbench.report.metrics import BY_KEY
from kvbench.report.names import null_reason
from kvbench.report.sentences import counted, joined, listed, output_word, own_words, percent, say, word
from kvbench.report.verdicts import pairs
from kvbench.text import UNKNOWN, format_value

# Charts of one run's speed: tokens a second by arm, and the speed-up with the blocks behind it.


WIDE = 10.0  # largest over smallest ratio from which their axis is logarithmic
EDGE = 1.15  # of a logarithmic axis beyond what is drawn
BESIDE = 0.2  # of a row: so far below the headline's ratio the other marks lie


def speed(record: RunRecord, looks: Mapping[str, Look]) -> Chart:
    """Decode tokens/s of every arm with its interval."""
    metric = BY_KEY["decode_tokens_per_s"]
    title = say("chart.speed.title")
    rates = [arm.decode_tokens_per_s for arm in record.arms]
    if not any(rate.value for rate in rates):
        reason = own_words(null_reason(record, metric.pointer(0))) if rates else say("terminal.nothing-measured")
        return Chart("speed", title, say("chart.no-rates", reason=reason))
    names = arm_names(record.arms)
    figures = [metric.show(arm) for arm in record.arms]
    return Chart(
        "speed",
        title,
        say("chart.speed"),
        figure(
            [
                bars(
                    y=list(range(len(names))),
                    x=[rate.value for rate in rates],
                    marker={"color": [looks[name].colour for name in names]},
                    error_x=interval([figures_of(rate) for rate in rates]),
                    customdata=figures,
                    hovertemplate="%{customdata}<extra></extra>",
                )
            ],
            xaxis={"title": {"text": say("axis.rate")}, "rangemode": "tozero"},
            showlegend=False,
            **named_rows(names, figures),
        ),
        height_px=rows_height(names, figures),
        numbers=Numbers((say("head.arm"), say("head.decode-speed")), tuple(zip(names, figures, strict=True))),
        switched="xaxis",
    )


def speedup(record: RunRecord, blocks: BlockSeries, looks: Mapping[str, Look]) -> Chart | None:
    """The speed-up of every candidate: its interval, the ratio of every block, and the band that counts as no change.

    None where there is nothing to compare.
    """
    if not record.comparisons:
        return None
    key, title = "speedup", say("chart.speedup.title")
    known = [
        (comparison, pair)
        for comparison, pair in zip(record.comparisons, pairs(record), strict=True)
        if pair.not_a_result is None and comparison.speedup.value is not None
    ]
    left_out = [pair for pair in pairs(record) if pair.not_a_result is not None]
    why = joined(*(say("chart.not-a-result", candidate=each.candidate, reason=each.why_not) for each in left_out))
    if not known:
        return Chart(key, title, why or say("chart.no-ratio"))
    traces: list[Trace] = []
    drawn = [1 - RELEVANT_WITHIN_A_RUN, 1 + RELEVANT_WITHIN_A_RUN]
    for row, (comparison, pair) in enumerate(known):
        look = looks[pair.candidate]
        ratios = blocks.ratios.get((comparison.baseline_arm, comparison.candidate_arm), [])
        drawn += [*ratios, *(each for each in figures_of(comparison.speedup) if each is not None)]
        traces.append(
            dots(
                look,
                x=ratios,
                y=[row + BESIDE] * len(ratios),
                marker={"size": 6, "opacity": FAINT},
                hovertemplate=say("hover.block", figure="%{x:.4g}×") + "<extra></extra>",
            )
        )
        traces.append(
            dots(
                look,
                x=[comparison.speedup.value],
                y=[row],
                marker={"size": 11},
                error_x=interval([figures_of(comparison.speedup)]) | {"thickness": 2, "width": 8},
                customdata=[pair.speedup],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
        whole = comparison.end_to_end_speedup
        if whole.value is not None:
            drawn.append(whole.value)
            traces.append(
                dots(
                    look,
                    hollow=True,
                    x=[whole.value],
                    y=[row + BESIDE],
                    hovertemplate=say("hover.end-to-end", figure=format_value(whole.value, "times"))
                    + "<extra></extra>",
                )
            )
    names = [f"{pair.candidate} ÷ {pair.baseline}" for _, pair in known]
    figures = [f"{pair.speedup} {word(pair.verdict)}" for _, pair in known]
    wide = max(drawn) > WIDE * min(drawn)
    return Chart(
        key,
        title,
        joined(
            say(
                "chart.speedup",
                baseline=known[0][1].baseline,
                blocks=counted("blocks", known[0][0].speedup.n_blocks),
                band=percent(RELEVANT_WITHIN_A_RUN),
            ),
            why,
        ),
        figure(
            traces,
            xaxis={
                "title": {"text": say("axis.speedup.log" if wide else "axis.speedup")},
                **(log_axis(min(drawn) / EDGE, max(drawn) * EDGE) if wide else {}),
            },
            shapes=[band(1 / (1 + RELEVANT_WITHIN_A_RUN), 1 + RELEVANT_WITHIN_A_RUN, opacity=0.3), rule(x=1)],
            showlegend=False,
            **named_rows(names, figures),
        ),
        height_px=rows_height(names, figures),
        numbers=Numbers(
            tuple(map(say, ("head.arm", "head.speedup", "head.interval", "head.verdict", "head.end-to-end"))),
            tuple(
                (pair.candidate, pair.speedup, pair.interval, word(pair.verdict), pair.end_to_end) for _, pair in known
            ),
        ),
    )


# The chart of whether two arms compute the same: the difference of their logits at every step of one token path.


MOST_STEPS = 600
BELOW = 10.0  # how far under everything else an exact zero is drawn


def agreement(record: RunRecord, looks: Mapping[str, Look]) -> Chart | None:
    """The largest relative logit difference of every candidate by step, beside noise and what is allowed.

    None where no difference was kept by step. Exact zeros lie on a line of their own at the foot.
    """
    known = [(each, _measured(each.agreement)) for each in record.comparisons]
    known = [(comparison, steps) for comparison, steps in known if steps]
    if not known:
        return None
    names = arm_names(record.arms)
    differences = [float(step.max_rel_logit_diff or 0.0) for _, steps in known for step in steps]
    lines = [
        value
        for comparison, _ in known
        for value in (comparison.agreement.noise_rel, comparison.agreement.allowed_rel)
        if value
    ]
    positive = [value for value in (*differences, *lines) if value > 0]
    zero = 10 ** math.floor(math.log10(min(positive))) / BELOW if positive else 1e-9
    top = max(positive, default=zero * 100)
    traces: list[Trace] = []
    for comparison, steps in known:
        name = names[comparison.candidate_arm]
        traces += _of_pair(steps, looks[name], label(name, names), zero)
    marks = _limits([comparison for comparison, _ in known])
    last = max(step.step for _, steps in known for step in steps)
    divergences = [
        (each.agreement.first_divergence, names[each.candidate_arm])
        for each, _ in known
        if each.agreement.first_divergence is not None
    ]
    marks["shapes"] += [rule(x=step, dash="longdash") for step, _ in divergences]
    marks["annotations"] += [
        note(
            say("note.free-runs-part", name=label(name, names)),
            x=step,
            yref="paper",
            y=0,
            yanchor="bottom",
            xanchor="left" if step < last / 2 else "right",
            font={"size": 11},
        )
        for step, name in divergences
    ]
    ticks = [10.0**power for power in range(round(math.log10(zero)) + 1, math.ceil(math.log10(top)) + 1)]
    return Chart(
        "agreement",
        say("chart.agreement.title"),
        say("chart.agreement", baseline=listed(sorted({names[each.baseline_arm] for each, _ in known}))),
        figure(
            traces,
            xaxis={"title": {"text": say("axis.step-index")}, "rangemode": "tozero"},
            yaxis={
                "title": {"text": say("axis.difference")},
                "type": "log",
                "range": [math.log10(zero) - 0.4, math.log10(top) + 0.5],
                "tickvals": [zero, *ticks],
                "ticktext": ["0", *(f"1e{round(math.log10(tick))}" for tick in ticks)],
            },
            showlegend=True,
            **marks,
        ),
        numbers=Numbers(
            tuple(map(say, AGREEMENT_HEADS)), tuple(_row(comparison, steps, names) for comparison, steps in known)
        ),
    )


AGREEMENT_HEADS = (
    *("head.arm", "head.output", "head.largest-difference", "head.at-step", "head.exactly-0", "head.rounding-alone"),
    *("head.allowed", "head.other-token", "head.texts-differ"),
)


def _measured(agreement: Agreement) -> list[AgreementStep]:
    return [step for step in agreement.by_step if step.max_rel_logit_diff is not None]


def _of_pair(steps: Sequence[AgreementStep], look: Look, name: str, zero: float) -> list[Trace]:
    kept = _kept(steps)
    shared: Trace = {"name": name, "legendgroup": name}
    traces = [
        line(
            look,
            x=[step.step for step in kept],
            y=[step.max_rel_logit_diff or zero for step in kept],
            mode="lines+markers",
            line={"width": 1.5},
            marker={"size": 5},
            customdata=[f"{step.max_rel_logit_diff:.3g}" for step in kept],
            hovertemplate=say("hover.at-step", figure="%{customdata}", step="%{x}"),
            **shared,
        )
    ]
    flipped = [step for step in kept if step.flips]
    if flipped:
        traces.append(
            dots(
                look,
                x=[step.step for step in flipped],
                y=[step.max_rel_logit_diff or zero for step in flipped],
                marker={"symbol": "x-open", "size": 13, "color": WARNING, "line": {"width": 2.5}},
                customdata=[step.flips for step in flipped],
                hovertemplate=say("hover.other-token", rows="%{customdata}", step="%{x}"),
                **(shared | {"name": say("legend.other-token")}),
            )
        )
    return traces


def _kept(steps: Sequence[AgreementStep]) -> list[AgreementStep]:
    """Evenly spaced ones, and every flip and the largest difference wherever they are."""
    indices = set(evenly(len(steps), MOST_STEPS))
    indices |= {index for index, step in enumerate(steps) if step.flips}
    indices.add(max(range(len(steps)), key=lambda index: steps[index].max_rel_logit_diff or 0.0))
    return [steps[index] for index in sorted(indices)]


def _limits(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Noise and allowance as lines; one each where several candidates were judged by the same."""
    shapes, notes = [], []
    for field, code, dash, anchor in (
        ("allowed_rel", "head.allowed", "dash", "bottom"),
        ("noise_rel", "head.rounding-alone", "dot", "top"),  # below its line: the two lie close together
    ):
        for value in sorted({getattr(each.agreement, field) for each in comparisons} - {None, 0.0}):
            shapes.append(rule(y=value, dash=dash))
            # An annotation on a logarithmic axis takes the exponent.
            notes.append(
                note(
                    f"{say(code)} {value:.2g}",
                    xref="paper",
                    x=1,
                    xanchor="right",
                    y=math.log10(value),
                    yanchor=anchor,
                    font={"size": 11},
                )
            )
    return {"shapes": shapes, "annotations": notes}


def _row(comparison: Comparison, steps: Sequence[AgreementStep], names: Sequence[str]) -> tuple[str, ...]:
    found = comparison.agreement
    worst = max(steps, key=lambda step: step.max_rel_logit_diff or 0.0)
    zeros = sum(not step.max_rel_logit_diff for step in steps)
    flips = sum(bool(step.flips) for step in steps)
    return (
        names[comparison.candidate_arm],
        output_word(found.verdict or found.differs_by or UNKNOWN),
        f"{worst.max_rel_logit_diff or 0:.2g}",
        str(worst.step),
        say("count.of-steps", count=zeros, of=len(steps)),
        *(UNKNOWN if limit is None else f"{limit:.2g}" for limit in (found.noise_rel, found.allowed_rel)),
        say("count.steps", count=flips),
        UNKNOWN if found.first_divergence is None else say("count.new-token", number=found.first_divergence),
    )
