"""Charts of change: one folder against another, and a trend over commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log

from kvbench.report.changes import Changes
from kvbench.report.charts.figures import (
    COLOURS,
    NEUTRAL,
    WARNING,
    Chart,
    Look,
    Numbers,
    band,
    dots,
    figure,
    interval,
    label,
    labels_of,
    line,
    named_rows,
    rows_height,
    rule,
    scaled,
)
from kvbench.report.overview import Summary
from kvbench.report.sentences import percent, say, word
from kvbench.text import format_value

MOST_ROWS = 40  # the first of them, which a reader must not miss
LEAST_COMMITS = 3
MOST_COMMITS = 60  # the newest
MOST_LINES = 8
COMMIT_CHARACTERS = 8
OF_VERDICT = {"SLOWER": WARNING, "FASTER": COLOURS[2]}


def change(changes: Changes, number: int) -> Chart | None:
    """The ratio of every row with its interval; None where no row has one."""
    known = [row for row in changes.rows if row.interval is not None][:MOST_ROWS]
    if not known:
        return None
    names = [" ".join(filter(None, (row.kind, row.arm))) for row in known]
    figures = [f"{row.ratio} {word(row.word)}" for row in known]
    traces = [
        dots(
            Look(OF_VERDICT.get(row.word, NEUTRAL), "solid", "circle"),
            x=[row.interval[0]],
            y=[place],
            marker={"size": 11},
            error_x=interval([row.interval]) | {"thickness": 2, "width": 8},
            customdata=[row.ratio],
            hovertemplate="%{customdata}<extra></extra>",
        )
        for place, row in enumerate(known)
        if row.interval is not None
    ]
    room = 1 + changes.relevance
    return Chart(
        f"change-{number}",
        say("chart.compare.title"),
        say("chart.compare", band=percent(changes.relevance)),
        figure(
            traces,
            xaxis={"title": {"text": say("axis.new-over-base")}},
            shapes=[band(1 / room, room, opacity=0.3), rule(x=1)],
            showlegend=False,
            **named_rows(names, figures),
        ),
        height_px=rows_height(names, figures),
    )


def trend(runs: Sequence[Summary], looks: Mapping[str, Look]) -> Chart | None:
    """Decode speed of each arm by commit, of the kind of run that has most commits; None with fewer than three."""
    by_kind: dict[str, dict[str, list[Summary]]] = {}
    for run in runs:
        if run.valid and run.commit:
            by_kind.setdefault(run.kind, {}).setdefault(run.commit, []).append(run)
    most = max(by_kind.values(), key=len, default={})
    if len(most) < LEAST_COMMITS:
        return None
    commits = sorted(most, key=lambda commit: min(run.created_at for run in most[commit]))[-MOST_COMMITS:]
    rates: dict[str, list[tuple[int, list[float]]]] = {}
    for place, commit in enumerate(commits):
        for run in most[commit]:
            for name, rate in run.rates:
                if rate.value:
                    mine = rates.setdefault(name, [])
                    if not mine or mine[-1][0] != place:
                        mine.append((place, []))
                    mine[-1][1].append(rate.value)
    chosen = list(rates.items())[:MOST_LINES]
    traces, rows = [], []
    for name, points in chosen:
        means = [exp(sum(map(log, values)) / len(values)) for _, values in points]
        at = dict(zip((place for place, _ in points), means, strict=True))
        rows.append((name, *(format_value(at.get(place), "tokens/s") for place in (0, len(commits) - 1))))
        ends = [(mean, min(values), max(values)) for mean, (_, values) in zip(means, points, strict=True)]
        traces.append(
            line(
                looks[name],
                x=[place for place, _ in points],
                y=scaled(means, 1),
                error_y=interval(ends),
                mode="lines+markers",
                name=label(name, tuple(rates)),
                hovertemplate="%{y:.4g} tok/s",
            )
        )
    return Chart(
        "trend",
        say("heading.trend"),
        say("chart.trend"),
        figure(
            traces,
            xaxis={
                "title": {"text": say("axis.commit")},
                "tickvals": list(range(len(commits))),
                "ticktext": labels_of([commit[:COMMIT_CHARACTERS] for commit in commits]),
            },
            yaxis={"title": {"text": say("axis.rate")}, "rangemode": "tozero"},
            showlegend=True,
        ),
        numbers=Numbers(
            (say("head.arm"), *(commit[:COMMIT_CHARACTERS] for commit in (commits[0], commits[-1]))),
            tuple(rows),
        ),
        switched="yaxis",
    )
