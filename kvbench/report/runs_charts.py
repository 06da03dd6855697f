"""Charts over many runs: speed-up and latency by prompt length, and run by run.

What does not fit the eye is aggregated, and the caption says how: runs that share a point become their median and
range, lengths and runs beyond a chart's room become classes and percentiles.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvbench.printable import printable
from kvbench.records.part import Estimate, Speedup
from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.figures import (
    Chart,
    Trace,
    Triple,
    count_ticks,
    dots,
    figure,
    figures_of,
    interval,
    label,
    line,
    log_axis,
    named_rows,
    note,
    rule,
    scaled,
    stacked,
)
from kvbench.report.formatting import UNKNOWN, Unit, axis_scale, format_estimate, format_value
from kvbench.report.names import batch_size, new_tokens, run_name
from kvbench.report.palette import Look
from kvbench.report.series import thinned
from kvbench.report.verdicts import is_result

MAX_PANELS = 6
MERGED_FIRST = ("new tokens", "batch")  # where groups are too many; machines and models are never mixed
MAX_ARMS = 8  # in one chart
MAX_LENGTHS = 40
MAX_ROWS = 60  # runs with a row of their own
MAX_POINTS = 300
PANEL_HEIGHT_PX = 230
RUN_HEIGHT_PX = 38
SPREAD = 0.22  # of a row, between the arms on it


Named = tuple[tuple[str, Estimate | Speedup], ...]  # by the name of the arm


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What these charts keep of a run, so that thousands need not be held whole. Figures are those that are results."""

    machine: str
    model: str
    batch: str
    new_tokens: str
    prompt_tokens: int | None  # of the longest prompt
    valid: bool
    speedups: Named
    itl_s: Named
    decode_tokens_per_s: Named


def run_figures(record: RunRecord) -> RunFigures:
    """From one record."""
    names, workload = arm_names(record), record.workload
    arms = list(zip(names, record.arms, strict=True)) if record.valid else []
    return RunFigures(
        machine=printable(str(record.environment.get("device_name") or record.environment.get("cpu") or UNKNOWN)),
        model=run_name(record),
        batch=f"batch {batch_size(record)}",
        new_tokens=f"{new_tokens(record)} new tokens",
        prompt_tokens=max(workload.prompt_tokens) if workload and workload.prompt_tokens else None,
        valid=record.valid,
        speedups=tuple(
            (names[each.candidate_arm], each.speedup)
            for each in record.comparisons
            if is_result(record, each) and each.speedup.value is not None
        ),
        itl_s=tuple((name, arm.itl_s) for name, arm in arms if arm.itl_s.value is not None),
        decode_tokens_per_s=tuple(
            (name, arm.decode_tokens_per_s) for name, arm in arms if arm.decode_tokens_per_s.value is not None
        ),
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one arm; `run` is the run's position."""

    run: int
    arm: str
    estimate: Estimate | Speedup
    value: float


def speedup_by_prompt(runs: Sequence[RunFigures], looks: Mapping[str, Look]) -> Chart | None:
    """Speed-up against prompt tokens, a panel per machine, model and batch; None when the length does not vary."""
    known = _with_length(runs, _figures(each.speedups for each in runs))
    if len({length for length, _ in known}) < 2:
        return None
    best_length, best = max(known, key=lambda point: point[1].value)
    worst_length, worst = min(known, key=lambda point: point[1].value)
    return _by_length(
        "speedup-by-prompt",
        "Speed-up against prompt length",
        f"From {format_value(worst.value, 'times')} at {worst_length:,} prompt tokens to"
        f" {format_value(best.value, 'times')} at {best_length:,}. Above 1 (dotted) the candidate is faster.",
        runs,
        known,
        looks,
        unit="times",
        axis="speed-up (×)",
        one=True,
    )


def itl_by_prompt(runs: Sequence[RunFigures], looks: Mapping[str, Look]) -> Chart | None:
    """ITL against prompt tokens, in the same panels; None when the length does not vary."""
    known = _with_length(runs, _figures(each.itl_s for each in runs))
    lengths = sorted({length for length, _ in known})
    if len(lengths) < 2:
        return None
    said = []
    for arm in _frequent(known):
        mine = [(length, each.value) for length, each in known if each.arm == arm]
        at = [(length, [value for n, value in mine if n == length]) for length in (min(mine)[0], max(mine)[0])]
        (first, first_s), (last, last_s) = ((length, sorted(values)[len(values) // 2]) for length, values in at)
        said.append(f"{arm} {format_value(first_s, 's')} at {first:,} and {format_value(last_s, 's')} at {last:,}")
    return _by_length(
        "itl-by-prompt",
        "Decode step latency against prompt length",
        f"ITL: {'; '.join(said)} prompt tokens.",
        runs,
        known,
        looks,
        unit="s",
        axis="decode step",
        one=False,
    )


def speedup_by_run(runs: Sequence[RunFigures], labels: Sequence[str], looks: Mapping[str, Look]) -> Chart | None:
    """The speed-up of every run with its interval; None where no run compares anything."""
    known = _figures(each.speedups for each in runs)
    if not known:
        return None
    return _by_run("speedup-by-run", "Speed-up by run", "speed-up (×)", "times", labels, known, looks)


def speed_by_run(runs: Sequence[RunFigures], labels: Sequence[str], looks: Mapping[str, Look]) -> Chart:
    """Decode tokens/s of every arm of every valid run."""
    known = _figures(each.decode_tokens_per_s for each in runs)
    title = "Decode speed by run and mode"
    if not known:
        return Chart("speed-by-run", title, "No valid run has a rate to show.")
    return _by_run("speed-by-run", title, "decode tokens/s", "tokens/s", labels, known, looks)


def _figures(named: Iterable[Named]) -> list[Figure]:
    return [
        Figure(number, arm, estimate, float(estimate.value or 0.0))
        for number, figures in enumerate(named)
        for arm, estimate in figures
    ]


def _with_length(runs: Sequence[RunFigures], figures: Sequence[Figure]) -> list[tuple[int, Figure]]:
    lengths = [each.prompt_tokens for each in runs]
    return [(length, each) for each in figures if (length := lengths[each.run]) is not None]


def _by_length(
    key: str,
    title: str,
    said: str,
    runs: Sequence[RunFigures],
    known: Sequence[tuple[int, Figure]],
    looks: Mapping[str, Look],
    *,
    unit: Unit,
    axis: str,
    one: bool,
) -> Chart:
    panel_of, merged = _panels(runs)
    drawn = sorted({panel_of[each.run] for _, each in known}, key=_natural)
    shown, arms = drawn[:MAX_PANELS], _frequent(known)
    lengths, grouped = _classes([length for length, _ in known])
    cells: dict[tuple[str, str], dict[float, list[Figure]]] = {}
    for length, each in known:
        cell = cells.setdefault((panel_of[each.run], each.arm), {})
        cell.setdefault(lengths[length], []).append(each)
    scale, named = axis_scale([max(each.value for _, each in known)], unit) if unit != "times" else (1.0, "")
    traces: list[Trace] = []
    layout: dict[str, Any] = {"annotations": [], "shapes": []}
    several = False
    for row, (panel, domain) in enumerate(zip(shown, stacked(len(shown), 0.3 / len(shown)), strict=True)):
        number = "" if row == 0 else str(row + 1)
        for arm in arms:
            points = sorted(cells.get((panel, arm), {}).items())
            if points:
                several |= any(len(runs) > 1 for _, runs in points)
                first = all(trace["legendgroup"] != arm for trace in traces)
                traces.append(_line_of(arm, points, looks[arm], scale, unit, number, first=first))
        layout[f"yaxis{number}"] = {
            "title": {"text": axis + (f" ({named})" if named else "")},
            "domain": domain,
            "rangemode": "tozero",
            "nticks": 5,
            # Speed-ups of all panels have one scale; seconds of a slow machine would flatten those of a fast one.
            **({"matches": "y"} if one and row else {}),
        }
        if one:
            layout["shapes"].append(rule(y=1, yref=f"y{number}"))
        if len(shown) > 1:
            where = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": domain[1], "yanchor": "bottom"}
            layout["annotations"].append(note(f"<b>{label(panel)}</b>", **where))
    ticks = count_ticks(lengths.values())
    return Chart(
        key,
        title,
        " ".join(
            filter(
                None,
                (
                    said,
                    "Where several runs share a point it is their median and the whiskers their range."
                    if several
                    else "Whiskers are the interval.",
                    f"Lengths are put into {len(set(lengths.values()))} classes." if grouped else "",
                    f"{', '.join(merged)} of the runs are not told apart: they share points." if merged else "",
                    _left_out("groups of runs", len(drawn) - len(shown)),
                    _left_out("modes", len({each.arm for _, each in known}) - len(arms)),
                    "" if all(each.valid for each in runs) else "Runs that are not valid are left out.",
                ),
            )
        ),
        figure(
            traces,
            xaxis={
                "title": {"text": "prompt tokens (logarithmic)"},
                "anchor": "y" if len(shown) == 1 else f"y{len(shown)}",
                **ticks,
            },
            showlegend=True,
            **layout,
            **_legend_above(len(shown)),
        ),
        height_px=100 + PANEL_HEIGHT_PX * len(shown),
    )


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """A key that sorts `batch 4` before `batch 16`."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]


def _legend_above(panels: int) -> dict[str, Any]:
    """Room for the first panel's name below the legend."""
    if panels == 1:
        return {}
    return {
        "legend": {"orientation": "h", "x": 0, "y": 1 + 0.12 / panels, "yanchor": "bottom"},
        "margin": {"l": 64, "r": 16, "t": 64, "b": 52},
    }


def _line_of(
    arm: str,
    points: Sequence[tuple[float, Sequence[Figure]]],
    look: Look,
    scale: float,
    unit: Unit,
    number: str,
    *,
    first: bool,
) -> Trace:
    figures = [_together(runs) for _, runs in points]
    return line(
        look,
        x=[length for length, _ in points],
        y=scaled((float(value or 0.0) for value, _, _ in figures), scale),
        mode="lines+markers",
        error_y=interval([_over(triple, scale) for triple in figures]),
        customdata=[_hover(runs, triple, unit) for (_, runs), triple in zip(points, figures, strict=True)],
        hovertemplate="%{customdata} at %{x:,} tokens",
        name=label(arm),
        legendgroup=arm,
        showlegend=first,
        yaxis=f"y{number}",
    )


def _hover(runs: Sequence[Figure], triple: Triple, unit: Unit) -> str:
    if len(runs) == 1:
        return format_estimate(runs[0].estimate, unit)
    return f"{format_value(triple[0], unit)}, median of {len(runs)} runs"


def _together(runs: Sequence[Figure]) -> Triple:
    """One run's figure with its interval; of several the median and the range."""
    if len(runs) == 1:
        return figures_of(runs[0].estimate)
    values = sorted(each.value for each in runs)
    return _quantile(values, 0.5), values[0], values[-1]


def _over(triple: Triple, scale: float) -> Triple:
    value, low, high = (None if each is None else each / scale for each in triple)
    return value, low, high


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the nearest two."""
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _panels(runs: Sequence[RunFigures]) -> tuple[list[str], list[str]]:
    """What each run is told apart by besides its prompt, and what is left out of that so that few groups remain."""
    aspects = {
        "machine": [each.machine for each in runs],
        "model": [each.model for each in runs],
        "batch": [each.batch for each in runs],
        "new tokens": [each.new_tokens for each in runs],
    }
    varying = {name: values for name, values in aspects.items() if len(set(values)) > 1}
    merged: list[str] = []
    for name in MERGED_FIRST:
        if name in varying and len(set(zip(*varying.values(), strict=True))) > MAX_PANELS:
            del varying[name]
            merged.append(name)
    return [" · ".join(values[index] for values in varying.values()) for index in range(len(runs))], merged


def _frequent(known: Sequence[tuple[int, Figure]]) -> list[str]:
    """The arms that a chart has room for, in the order in which they come first."""
    counts = Counter(each.arm for _, each in known)
    kept = {arm for arm, _ in counts.most_common(MAX_ARMS)}
    return [arm for arm in counts if arm in kept]


def _classes(lengths: Sequence[int]) -> tuple[dict[int, float], bool]:
    """Every length by itself, or the middle of its class on a logarithmic axis where there are too many."""
    distinct = sorted(set(lengths))
    if len(distinct) <= MAX_LENGTHS:
        return {length: float(length) for length in distinct}, False
    width = math.log(distinct[-1] / distinct[0]) / MAX_LENGTHS
    members: dict[int, list[int]] = {}
    for length in distinct:
        place = min(int(math.log(length / distinct[0]) / width), MAX_LENGTHS - 1)
        members.setdefault(place, []).append(length)
    return {length: float(each[len(each) // 2]) for each in members.values() for length in each}, True


def _by_run(
    key: str,
    title: str,
    axis: str,
    unit: Unit,
    labels: Sequence[str],
    known: Sequence[Figure],
    looks: Mapping[str, Look],
) -> Chart:
    rows = sorted({each.run for each in known})
    left_out = len(labels) - len(rows)
    rest = f" {left_out} without a result are left out." if left_out else ""
    if len(rows) > MAX_ROWS:
        return _strip(key, title, axis, unit, labels, known, looks, rest)
    place = {run: row for row, run in enumerate(rows)}
    arms = list(dict.fromkeys(each.arm for each in known))
    traces = []
    for number, arm in enumerate(arms):
        mine = [each for each in known if each.arm == arm]
        offset = (number - (len(arms) - 1) / 2) * SPREAD / max(1, len(arms) / 3)
        traces.append(
            dots(
                looks[arm],
                name=label(arm),
                x=[each.value for each in mine],
                y=[place[each.run] + offset for each in mine],
                error_x=interval([figures_of(each.estimate) for each in mine]),
                customdata=[format_estimate(each.estimate, unit) for each in mine],
                hovertemplate="%{customdata}",
            )
        )
    values = [each.value for each in known]
    wide = max(values) > 10 * min(values)
    layout = named_rows([labels[run] or f"run {run + 1}" for run in rows])
    layout["margin"] = {"l": 12, "r": 16, "t": 40, "b": 52}
    return Chart(
        key,
        title,
        f"{_extremes(known, labels, unit)} Further right is faster; whiskers are the interval, {len(rows)} runs.{rest}",
        figure(
            traces,
            xaxis={
                "title": {"text": axis + (" (logarithmic)" if wide else "")},
                **(log_axis(min(values) / 1.15, max(values) * 1.15) if wide else {"rangemode": "tozero"}),
                "side": "bottom",
            },
            showlegend=True,
            shapes=[rule(x=1)] if unit == "times" else [],
            **layout,
        ),
        height_px=130 + RUN_HEIGHT_PX * len(rows),
    )


def _strip(
    key: str,
    title: str,
    axis: str,
    unit: Unit,
    labels: Sequence[str],
    known: Sequence[Figure],
    looks: Mapping[str, Look],
    rest: str,
) -> Chart:
    """All runs side by side, sorted by value: the line is a percentile, the shade the runs' intervals."""
    traces: list[Trace] = []
    said = []
    for arm in list(dict.fromkeys(each.arm for each in known))[:MAX_ARMS]:
        mine = sorted((each for each in known if each.arm == arm), key=lambda each: each.value)
        values = [each.value for each in mine]
        traces += _ribbon(mine, looks[arm], unit, label(arm))
        low, middle, high = (format_value(_quantile(values, share), unit) for share in (0.1, 0.5, 0.9))
        said.append(f"{arm}: half of {len(mine):,} runs at most {middle}, 80 % between {low} and {high}")
    every = [each.value for each in known]
    hidden = len({each.arm for each in known}) - MAX_ARMS
    return Chart(
        key,
        title,
        f"{'; '.join(said)}. {_extremes(known, labels, unit)} Runs sorted by their value, at most {MAX_POINTS} drawn;"
        f" the shade is their intervals. {_left_out('modes', hidden)}{rest}".strip(),
        figure(
            traces,
            xaxis={"title": {"text": "runs, sorted (%)"}, "range": [0, 100]},
            yaxis={"title": {"text": f"{axis} (logarithmic)"}, **log_axis(min(every) / 1.15, max(every) * 1.15)},
            showlegend=True,
            shapes=[rule(y=1)] if unit == "times" else [],
        ),
        height_px=360,
    )


def _ribbon(mine: Sequence[Figure], look: Look, unit: Unit, name: str) -> Iterator[Trace]:
    kept = thinned(len(mine), MAX_POINTS)
    shares = scaled((100 * index / max(1, len(mine) - 1) for index in kept), 1)
    shared: Trace = {"x": shares, "legendgroup": name, "name": name}
    runs = [mine[index] for index in kept]
    low, high = (
        [each.value if bound is None else bound for each, bound in zip(runs, bounds, strict=True)]
        for bounds in ([each.estimate.ci_low for each in runs], [each.estimate.ci_high for each in runs])
    )
    for edge, fill in ((low, {}), (high, {"fill": "tonexty", "fillcolor": f"{look.colour}40"})):
        yield {
            "type": "scatter",
            "mode": "lines",
            "y": scaled(edge, 1),
            "line": {"color": look.colour, "width": 0},
            "showlegend": False,
            "hoverinfo": "skip",
            **fill,
            **shared,
        }
    yield line(
        look,
        y=scaled((mine[index].value for index in kept), 1),
        customdata=[format_estimate(mine[index].estimate, unit) for index in kept],
        hovertemplate="%{customdata}",
        **shared,
    )


def _extremes(known: Sequence[Figure], labels: Sequence[str], unit: Unit) -> str:
    least, most = (choose(known, key=lambda each: each.value) for choose in (min, max))
    if least.run == most.run or least.value == most.value:
        return ""
    low, high = (
        f"{format_estimate(each.estimate, unit)} ({labels[each.run] or f'run {each.run + 1}'}, {each.arm})"
        for each in (least, most)
    )
    return f"From {low} to {high}."


def _left_out(what: str, count: int) -> str:
    return f"{count} more {what} are not drawn." if count > 0 else ""
