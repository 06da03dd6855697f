"""The chart of whether two arms compute the same: the difference of their logits at every step of one token path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kvbench.arm import arm_names
from kvbench.records.agreement_figures import Agreement, AgreementStep
from kvbench.records.run_record import Comparison, RunRecord
from kvbench.report.charts.figures import WARNING, Chart, Look, Trace, dots, figure, label, line, note, rule
from kvbench.report.charts.series import thinned

MAX_STEPS = 600
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
            f"free runs part: {label(name, names)}",
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
        "Difference of the logits by step",
        " ".join(_said(comparison, steps, names) for comparison, steps in known)
        + " Relative to the largest logit, on one token path; step 0 is the prefill's token.",
        figure(
            traces,
            xaxis={"title": {"text": "step (index of the new token)"}, "rangemode": "tozero"},
            yaxis={
                "title": {"text": "largest relative difference"},
                "type": "log",
                "range": [math.log10(zero) - 0.4, math.log10(top) + 0.5],
                "tickvals": [zero, *ticks],
                "ticktext": ["0", *(f"1e{round(math.log10(tick))}" for tick in ticks)],
            },
            showlegend=True,
            **marks,
        ),
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
            hovertemplate="%{customdata} at step %{x}",
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
                hovertemplate="another likeliest token in %{customdata} rows at step %{x}",
                **(shared | {"name": "another likeliest token"}),
            )
        )
    return traces


def _kept(steps: Sequence[AgreementStep]) -> list[AgreementStep]:
    """Evenly thinned, and every flip and the largest difference whatever the thinning."""
    indices = set(thinned(len(steps), MAX_STEPS))
    indices |= {index for index, step in enumerate(steps) if step.flips}
    indices.add(max(range(len(steps)), key=lambda index: steps[index].max_rel_logit_diff or 0.0))
    return [steps[index] for index in sorted(indices)]


def _limits(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Noise and allowance as lines; one each where several candidates were judged by the same."""
    shapes, notes = [], []
    for field, word, dash in (("allowed_rel", "allowed", "dash"), ("noise_rel", "rounding alone", "dot")):
        for value in sorted({getattr(each.agreement, field) for each in comparisons} - {None, 0.0}):
            shapes.append(rule(y=value, dash=dash))
            # An annotation on a logarithmic axis takes the exponent.
            notes.append(
                note(
                    f"{word} {value:.2g}",
                    xref="paper",
                    x=1,
                    xanchor="right",
                    y=math.log10(value),
                    yanchor="bottom",
                    font={"size": 11},
                )
            )
    return {"shapes": shapes, "annotations": notes}


def _said(comparison: Comparison, steps: Sequence[AgreementStep], names: Sequence[str]) -> str:
    found = comparison.agreement
    word = found.verdict or found.differs_by or "no verdict"
    pair = f"{names[comparison.candidate_arm]} against {names[comparison.baseline_arm]}: {word}"
    worst = max(steps, key=lambda step: step.max_rel_logit_diff or 0.0)
    if not worst.max_rel_logit_diff:
        said = f"{pair}, every logit equal to the bit at all {len(steps)} steps"
    else:
        said = f"{pair}, at most {worst.max_rel_logit_diff:.2g} (step {worst.step} of {len(steps)})"
        zeros = sum(not step.max_rel_logit_diff for step in steps)
        said += f", exactly 0 at {zeros}" if zeros else ""
    if found.noise_rel is not None:
        said += f"; rounding alone {found.noise_rel:.2g}"
    if found.allowed_rel is not None:
        said += f", allowed {found.allowed_rel:.2g}"
    flips = sum(bool(step.flips) for step in steps)
    if flips:
        said += f"; another likeliest token at {flips} {'step' if flips == 1 else 'steps'}"
    else:
        said += "; the likeliest token is always the same"
    if found.first_divergence is not None:
        said += f"; free runs part at new token {found.first_divergence}"
    return f"{said}."
