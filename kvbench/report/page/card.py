"""One run in a notebook: its verdict, its table and its chart as a piece of HTML that needs no script and no page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.report.charts.choice import answer_chart, run_charts
from kvbench.report.charts.figures import looks
from kvbench.report.charts.series import step_series
from kvbench.report.first_screen import first_screen, title_of
from kvbench.report.page.glance import glance
from kvbench.report.page.rendering import environment
from kvbench.report.sentences import explained, word
from kvbench.report.verdicts import run_word

if TYPE_CHECKING:
    import pyarrow


def card(record: RunRecord, steps: pyarrow.Table | None, blocks: Sequence[Mapping[str, Any]]) -> str:
    """The HTML of one run; `steps` is its per-step table, `blocks` are the lines of its blocks.jsonl.

    Text and lines take the colour of what is around them, so that it reads on a light and on a dark ground.
    """
    names = looks(arm_names(record.arms))
    charts = run_charts(record, step_series(steps, len(record.arms)), names, blocks)
    first = first_screen(record)
    failed = [
        f"{each.name}: {explained(f'check.{each.name}', f'{each.detail} → {each.advice}')}"
        for each in record.checks
        if not each.passed
    ]
    return (
        environment()
        .get_template("card.html.j2")
        .render(
            title=title_of(record),
            word=word(run_word(record)),
            valid=record.valid,
            first=first,
            beside=[*first.beside, *failed],
            warnings=[f"{each.code}: {explained(f'warning.{each.code}', each.detail)}" for each in record.warnings],
            glance=glance(record),
            chart=answer_chart(record, charts),
        )
    )
