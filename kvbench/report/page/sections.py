"""What the page says about one run: everything resolved to text, so that the template only lays it out."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from kvbench.arm import arm_names
from kvbench.records.evidence import RunWarning
from kvbench.records.run_record import Check, RunRecord
from kvbench.records.step_table import lane_rows
from kvbench.records.store import StoredRun
from kvbench.report.charts.figures import Chart
from kvbench.report.metrics import METRICS, Metric, unknown
from kvbench.report.names import batch_size, device_name, new_tokens, null_reason, prompt_tokens, run_modes, run_name
from kvbench.report.page.facts import Answer, Facts, Repeat, answers, facts, repeat
from kvbench.report.page.texts import Confidence, Produced, confidence, produced_texts
from kvbench.report.run_facts import TurnRow, turn_arms, turn_rows
from kvbench.report.verdicts import Headline, Pair, as_table, headlines, pairs, run_kind, run_word, status_reason
from kvbench.text import UNKNOWN, printable

if TYPE_CHECKING:
    import pyarrow

# The rows that stand beside the verdict; the full table is further down.
AT_A_GLANCE = (
    "ttft_s",
    "itl_s",
    "decode_tokens_per_s",
    "end_to_end_tokens_per_s",
    "kv_cache_bytes",
    "process_rss_bytes",
)
MOST_INLINE_RECORDS_BYTES = 2**20  # of all records of a page; what is larger lies in the run folders anyway
BETTER = {"lower": "Lower is better.", "higher": "Higher is better.", "none": ""}


@dataclass(frozen=True)
class Cell:
    """One figure: as shown, and as recorded or the reason why it is unknown."""

    text: str
    title: str
    known: bool


@dataclass(frozen=True)
class Row:
    """One metric over all arms."""

    title: str
    better: str
    computed: str
    group: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """One run on the page."""

    anchor: str
    label: str
    name: str
    run_id: str
    created_at: str
    word: str
    valid: bool
    reason: str
    workload: tuple[tuple[str, str], ...]
    arms: tuple[str, ...]
    headlines: tuple[Headline, ...]  # of the kind of run; none where the pairs of arms are what it is about
    pairs: tuple[Pair, ...]
    answers: tuple[Answer, ...]
    glance: tuple[Row, ...]
    charts: tuple[Chart, ...]
    turn_arms: tuple[str, ...]
    turns: tuple[TurnRow, ...]
    inserted: str  # the message that interruptions insert; empty when they insert none
    produced: Produced
    confidence: Confidence | None
    checks: tuple[Check, ...]
    warnings: tuple[RunWarning, ...]
    metrics: tuple[tuple[str, tuple[Row, ...]], ...]
    facts: tuple[Facts, ...]
    repeat: Repeat | None
    record_uri: str | None
    figure: str  # of its first headline, for the line that opens the section; may be empty

    @property
    def pairs_as_table(self) -> bool:
        """Whether the pairs are rows of a table instead of sentences."""
        return as_table(self.pairs)

    @property
    def paid_back(self) -> bool:
        """Whether any interruption has an answer to when it was paid back."""
        return any(row.paid_back != UNKNOWN for row in self.turns)


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

    `steps` is the run's per-step table, None when it has none, `prompts` are those that are shown.
    """
    record = run.record
    told = headlines(record)
    rows = tuple(_row(record, metric) for metric in METRICS) if record.arms else ()
    return Section(
        anchor=f"run-{number}",
        label=label,
        name=run_name(record),
        run_id=record.run_id,
        created_at=record.created_at,
        word=run_word(record),
        valid=record.valid,
        reason=status_reason(record),
        workload=_workload(record),
        arms=arm_names(record.arms),
        headlines=() if run_kind(record) == "speed-up" else told,
        pairs=pairs(record),
        answers=answers(record),
        glance=tuple(row for metric, row in zip(METRICS, rows, strict=False) if metric.key in AT_A_GLANCE),
        charts=tuple(charts),
        turn_arms=turn_arms(record),
        turns=turn_rows(record),
        inserted=printable(str((record.config.get("interrupt") or {}).get("message") or "")),
        produced=produced_texts(run, prompts),
        confidence=None if steps is None else confidence(record, lane_rows(steps, "trace"), prompts, of=of),
        checks=record.checks,
        warnings=record.warnings,
        metrics=tuple((group, tuple(members)) for group, members in groupby(rows, key=lambda row: row.group)),
        facts=facts(record),
        repeat=repeat(record),
        record_uri=_record_uri(record, MOST_INLINE_RECORDS_BYTES // of),
        figure=f"{told[0].figure} {told[0].interval}".strip() if told else "",
    )


def _row(record: RunRecord, metric: Metric) -> Row:
    cells = tuple(
        Cell(UNKNOWN, null_reason(record, metric.pointer(index)), known=False)
        if unknown(metric, arm)
        else Cell(metric.show(arm), metric.exact(arm), known=True)
        for index, arm in enumerate(record.arms)
    )
    return Row(metric.title, BETTER[metric.better], metric.computed, metric.group, cells)


def _workload(record: RunRecord) -> tuple[tuple[str, str], ...]:
    """What was decoded, on what: the line below the title."""
    model = record.model or {}
    candidates = (
        ("modes", run_modes(record)),
        ("model", str(model.get("name") or run_name(record))),
        ("dtype", str(model.get("dtype") or UNKNOWN)),
        ("device", device_name(record)),
        ("prompt tokens", prompt_tokens(record)),
        ("new tokens", new_tokens(record)),
        ("batch", batch_size(record)),
    )
    return tuple((name, value) for name, value in candidates if value != UNKNOWN)


def _record_uri(record: RunRecord, most_bytes: int) -> str | None:
    content = record.model_dump_json().encode()
    if len(content) > most_bytes:
        return None
    return "data:application/json;base64," + base64.b64encode(content).decode()
