"""Charts of one run's speed: tokens a second by arm, and the speed-up with the blocks behind it."""

from __future__ import annotations

from collections.abc import Mapping

from kvbench.analysis.estimates import RELEVANCE
from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.report.charts.figures import (
    FAINT,
    Chart,
    Look,
    Trace,
    band,
    bars,
    dots,
    figure,
    figures_of,
    interval,
    log_axis,
    named_rows,
    rows_height,
    rule,
    said_of,
)
from kvbench.report.charts.series import BlockSeries
from kvbench.report.formatting import null_reason
from kvbench.report.metrics import BY_KEY
from kvbench.report.verdicts import pairs
from kvbench.text import format_value

WIDE = 10.0  # largest over smallest ratio from which their axis is logarithmic
EDGE = 1.15  # of a logarithmic axis beyond what is drawn
BESIDE = 0.2  # of a row: so far below the headline's ratio the other marks lie


def speed(record: RunRecord, looks: Mapping[str, Look]) -> Chart:
    """Decode tokens/s of every arm with its interval."""
    metric = BY_KEY["decode_tokens_per_s"]
    title = "Decode speed by mode"
    rates = [arm.decode_tokens_per_s for arm in record.arms]
    if not any(rate.value for rate in rates):
        reason = null_reason(record, metric.pointer(0)) if rates else "nothing was measured"
        return Chart("speed", title, f"No rates: {reason}.")
    names = arm_names(record.arms)
    figures = [metric.show(arm) for arm in record.arms]
    return Chart(
        "speed",
        title,
        f"Longer is faster: {said_of(names, figures)}. Median over blocks, whiskers are its interval.",
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
            xaxis={"title": {"text": "decode tokens/s"}, "rangemode": "tozero"},
            showlegend=False,
            **named_rows(names, figures),
        ),
        height_px=rows_height(names, figures),
    )


def speedup(record: RunRecord, blocks: BlockSeries, looks: Mapping[str, Look]) -> Chart | None:
    """The speed-up of every candidate: its interval, the ratio of every block, and the band that counts as no change.

    None where there is nothing to compare.
    """
    if not record.comparisons:
        return None
    key, title = "speedup", "Speed-up, and the blocks behind it"
    known = [
        (comparison, pair)
        for comparison, pair in zip(record.comparisons, pairs(record), strict=True)
        if pair.not_a_result is None and comparison.speedup.value is not None
    ]
    left_out = [pair for pair in pairs(record) if pair.not_a_result is not None]
    why = " ".join(f"{pair.candidate} is not a result: {pair.not_a_result}." for pair in left_out)
    if not known:
        return Chart(key, title, why or "No ratio is known.")
    traces: list[Trace] = []
    drawn = [1 - RELEVANCE, 1 + RELEVANCE]
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
                hovertemplate="one block: %{x:.4g}×<extra></extra>",
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
                    hovertemplate=f"end to end: {format_value(whole.value, 'times')}<extra></extra>",
                )
            )
    names = [f"{pair.candidate} ÷ {pair.baseline}" for _, pair in known]
    figures = [f"{pair.speedup} {pair.verdict}" for _, pair in known]
    wide = max(drawn) > WIDE * min(drawn)
    return Chart(
        key,
        title,
        " ".join(
            filter(
                None,
                (
                    "; ".join(f"{pair.sentence}: {pair.verdict}, end to end {pair.end_to_end}" for _, pair in known)
                    + ".",
                    f"Faint dots: {_blocks(known[0][0].speedup.n_blocks)} one by one; hollow: with the prefill; grey:"
                    f" the band of ±{RELEVANCE:.0%} in which a difference counts as none.",
                    why,
                ),
            )
        ),
        figure(
            traces,
            xaxis={
                "title": {"text": f"speed-up (×{', logarithmic' if wide else ''})"},
                **(log_axis(min(drawn) / EDGE, max(drawn) * EDGE) if wide else {}),
            },
            shapes=[band(1 / (1 + RELEVANCE), 1 + RELEVANCE, opacity=0.3), rule(x=1)],
            showlegend=False,
            **named_rows(names, figures),
        ),
        height_px=rows_height(names, figures),
    )


def _blocks(count: int) -> str:
    return f"the {count} blocks" if count > 1 else "the block"
