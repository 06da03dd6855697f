"""What the page says about one run: everything resolved to text, so that the template only lays it out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.records.step_table import lane_rows
from kvbench.records.store import StoredRun
from kvbench.report.charts.choice import PLACES, answer_chart
from kvbench.report.charts.figures import Chart
from kvbench.report.first_screen import FirstScreen, first_screen, title_of, workload_of
from kvbench.report.lengths import frontier_sentences, growth_sentences
from kvbench.report.metrics import METRICS, Metric, unknown
from kvbench.report.names import null_reason
from kvbench.report.page.differences import Output, output
from kvbench.report.page.facts import (
    Facts,
    Repeat,
    Table,
    facts,
    growth_table,
    limits,
    memory,
    repeat,
    sizes_table,
    why,
)
from kvbench.report.page.glance import Cell, Glance, glance
from kvbench.report.page.illustration import Illustration, picture
from kvbench.report.page.texts import Confidence, Produced, confidence, produced_texts
from kvbench.report.run_facts import TurnRow, preparations, turn_arms, turn_rows
from kvbench.report.sentences import checked, explained, named, own_words, say, word
from kvbench.report.verdicts import headlines, run_word
from kvbench.text import UNKNOWN, printable

if TYPE_CHECKING:
    import pyarrow

MOST_INLINE_RECORDS_BYTES = 2**20  # of all records of a page; what is larger lies in the run folders anyway


@dataclass(frozen=True)
class Row:
    """One metric over all arms."""

    title: str
    better: str
    computed: str
    group: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Remark:
    """A check or a warning: what it means where another language is spoken, and the record's sentence."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True)
class Section:
    """One run on the page."""

    anchor: str
    label: str
    title: str
    run_id: str
    created_at: str
    word: str
    valid: bool
    workload: tuple[tuple[str, str], ...]
    arms: tuple[str, ...]
    first: FirstScreen
    glance: Glance | None
    picture: Illustration | None
    why: tuple[str, ...]
    memory: tuple[str, ...]
    growth: tuple[str, ...]
    growth_table: Table | None
    sizes: tuple[str, ...]
    sizes_table: Table | None
    speed: tuple[str, ...]
    output: Output | None
    charts: Mapping[str, tuple[Chart, ...]]  # by the part of the page that they stand in; "answer" is the first screen
    turn_arms: tuple[str, ...]
    turns: tuple[TurnRow, ...]
    inserted: str  # the message that interruptions insert; empty when they insert none
    produced: Produced
    confidence: Confidence | None
    checks: tuple[Remark, ...]
    warnings: tuple[Remark, ...]
    metrics: tuple[tuple[str, tuple[Row, ...]], ...]
    facts: tuple[Facts, ...]
    repeat: Repeat | None
    record_uri: str | None
    figure: str  # of its answer, for the line that opens the section; may be empty

    @property
    def all_charts(self) -> tuple[Chart, ...]:
        """Every chart, wherever it stands."""
        return tuple(chart for charts in self.charts.values() for chart in charts)

    @property
    def paid_back(self) -> bool:
        """Whether any interruption has an answer to when it was paid back."""
        return any(row.paid_back != UNKNOWN for row in self.turns)

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """The parts that this run has, as the end of their anchor and their name in the navigation."""
        every = (
            ("glance", "heading.glance", self.glance),
            ("picture", "heading.picture", self.picture),
            ("why", "heading.why", self.why),
            ("growth", "nav.growth", self.growth),
            ("sizes", "heading.sizes", self.sizes),
            ("memory", "heading.memory", self.memory or self.charts.get("memory")),
            ("speed", "nav.speed", self.charts.get("speed") or self.speed),
            ("output", "nav.output", self.output),
            ("turns", "heading.turns", self.turns),
            ("texts", "nav.texts", self.arms),
            ("confidence", "heading.confidence", self.confidence),
            ("checks", "nav.checks", self.checks or self.warnings),
            ("machine", "nav.machine", self.charts.get("machine")),
            ("figures", "nav.figures", self.metrics),
            ("setup", "nav.setup", self.facts),
            ("repeat", "nav.repeat", self.repeat),
        )
        return tuple((key, say(code)) for key, code, held in every if held)


def section(
    run: StoredRun,
    number: int,
    label: str,
    charts: Sequence[Chart],
    steps: pyarrow.Table | None,
    prompts: Sequence[str] = (),
    *,
    of: int,
) -> Section:
    """The section of one of `of` runs; `number` makes its anchor, `label` tells it from the others of the page.

    `charts` begin with the one that answers the run. `steps` is the run's per-step table, None when it has none,
    `prompts` are those that are shown.
    """
    record = run.record
    told = headlines(record)
    rows = tuple(_row(record, metric) for metric in METRICS) if record.arms else ()
    return Section(
        anchor=f"run-{number}",
        label=label,
        title=title_of(record),
        run_id=record.run_id,
        created_at=record.created_at,
        word=word(run_word(record)),
        valid=record.valid,
        workload=workload_of(record),
        arms=arm_names(record.arms),
        first=first_screen(record),
        glance=glance(record),
        picture=picture(record),
        why=why(record),
        memory=memory(record),
        growth=growth_sentences(record),
        growth_table=growth_table(record),
        sizes=frontier_sentences(record),
        sizes_table=sizes_table(record),
        speed=(*preparations(record), *limits(record)),
        output=output(record),
        charts=_placed(record, charts),
        turn_arms=turn_arms(record),
        turns=turn_rows(record),
        inserted=printable(str((record.config.get("interrupt") or {}).get("message") or "")),
        produced=produced_texts(run, prompts),
        confidence=None if steps is None else confidence(record, lane_rows(steps, "trace"), prompts, of=of),
        checks=tuple(
            Remark(
                named(each.name),
                passed=each.passed,
                text=checked(each.name, each.detail, each.advice, passed=each.passed),
            )
            for each in record.checks
        ),
        warnings=tuple(
            Remark(named(each.code), passed=False, text=explained(f"warning.{each.code}", each.detail))
            for each in record.warnings
        ),
        metrics=tuple(
            (say(f"group.{group}"), tuple(members)) for group, members in groupby(rows, key=lambda row: row.group)
        ),
        facts=facts(record),
        repeat=repeat(record),
        record_uri=_record_uri(record, MOST_INLINE_RECORDS_BYTES // of),
        figure=f"{told[0].figure} {told[0].interval}".strip() if told else "",
    )


def _placed(record: RunRecord, charts: Sequence[Chart]) -> dict[str, tuple[Chart, ...]]:
    """The charts by the part of the page that they stand in."""
    answer = answer_chart(record, charts)
    found: dict[str, tuple[Chart, ...]] = {}
    for chart in charts:
        place = "answer" if chart is answer else PLACES[chart.key]
        found[place] = (*found.get(place, ()), chart)
    return found


def _row(record: RunRecord, metric: Metric) -> Row:
    cells = tuple(
        Cell(UNKNOWN, own_words(null_reason(record, metric.pointer(index))), known=False)
        if unknown(metric, arm)
        else Cell(metric.show(arm), metric.exact(arm), known=True)
        for index, arm in enumerate(record.arms)
    )
    better = "" if metric.better == "none" else say(f"better.{metric.better}")
    return Row(metric.name, better, metric.explanation, metric.group, cells)


def _record_uri(record: RunRecord, most_bytes: int) -> str | None:
    content = record.model_dump_json().encode()
    if len(content) > most_bytes:
        return None
    return "data:application/json;base64," + base64.b64encode(content).decode()
