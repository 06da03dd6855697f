"""A table of runs in the terminal, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kvbench.records.run_record import RunRecord
from kvbench.report.console.style import GREYED, STYLES
from kvbench.report.formatting import UNKNOWN
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_modes, run_name
from kvbench.report.verdicts import pairs, run_word, status_reason


@dataclass(frozen=True)
class RunRow:
    """What a table of runs says of one: a sweep of thousands keeps this instead of the records."""

    name: str
    modes: str
    prompt_tokens: str
    new_tokens: str
    batch_size: str
    speedups: Text
    word: str
    reason: str  # why it is not VALID


def run_row(record: RunRecord) -> RunRow:
    """What was decoded, the speed-up with its interval, and how it ended."""
    return RunRow(
        run_name(record),
        run_modes(record),
        prompt_tokens(record),
        new_tokens(record),
        batch_size(record),
        _speedups(record),
        run_word(record),
        "" if record.valid else status_reason(record),
    )


def runs_table(rows: Sequence[RunRow]) -> RenderableType:
    """One row per run."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold", min_width=8)
    table.add_column("modes", overflow="fold", min_width=len("(dynamic)"))
    for title in ("prompt", "new", "batch"):
        table.add_column(title, justify="right", overflow="fold")
    table.add_column("speed-up", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for row in rows:
        told = (row.name, row.modes, row.prompt_tokens, row.new_tokens, row.batch_size)
        table.add_row(*map(Text, told), row.speedups, Text(row.word, style=STYLES.get(row.word, "red")))
    reasons = [Text.assemble((f"{row.name} {row.word}: ", "bold"), row.reason) for row in rows if row.reason]
    return Group(table, *reasons)


def _speedups(record: RunRecord) -> Text:
    lines = [
        Text(pair.speedup) if pair.not_a_result is None else Text("not a result", style=GREYED)
        for pair in pairs(record)
    ]
    return Text("\n").join(lines) if lines else Text(UNKNOWN)
