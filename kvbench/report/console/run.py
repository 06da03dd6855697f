"""A run in the terminal. Everything is plain text first; colour only repeats what words say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kvbench.printable import printable
from kvbench.records.run_record import Check, RunRecord
from kvbench.report.console.arms import arm_notes, arms_table
from kvbench.report.console.lengths import growth, turns, what_fits
from kvbench.report.console.pairs import reference_lines, statements
from kvbench.report.console.style import GREYED, STYLES
from kvbench.report.headline import headlines, run_kind
from kvbench.report.shapes import shape_rows
from kvbench.report.verdicts import pairs, run_word, status_reason


def comparison_table(record: RunRecord) -> RenderableType:
    """One column per arm with its figures, what every pair of arms says, and last what the run was made to find out."""
    if not record.arms:
        return Text("nothing was measured", style=GREYED)
    if record.frontier is not None:
        return what_fits(record)
    answers = [*statements(pairs(record)), *reference_lines(record), *growth(record)]
    return Group(arms_table(record), *arm_notes(record), *turns(record), *answers, *_last_words(record))


def _last_words(record: RunRecord) -> list[Text]:
    """The headlines of a run whose pairs of arms are not what it is about."""
    if run_kind(record) == "speed-up":
        return []  # each pair has said its own
    return [Text(each.sentence, style="bold") for each in headlines(record)]


def verdict_panel(record: RunRecord) -> RenderableType:
    """VALID, INVALID, or how the run ended, with one line per check and per warning."""
    word = run_word(record)
    lines = [_check_line(check) for check in record.checks]
    lines += [
        Text.assemble(("! ", "yellow"), printable(f"{warning.code}: {warning.detail}")) for warning in record.warnings
    ]
    if not record.valid and not any(not check.passed for check in record.checks):
        # A failed check says why by itself; any other end has only this sentence.
        lines.insert(0, Text(status_reason(record)))
    body = Group(*lines) if lines else Text("no checks were made")
    style = STYLES.get(word, "red")
    return Panel(body, title=Text(word, style=f"bold {style}"), title_align="left", border_style=style)


def outcome_lines(record: RunRecord) -> list[str]:
    """How the run ended, its headlines a line each, and what a reader should know."""
    word = run_word(record)
    if not record.valid:
        return [f"{word}: {status_reason(record)}"]
    told = [f"{word}: {each.sentence}" for each in headlines(record)]
    return [*told, *(f"! {warning.code}" for warning in record.warnings)]


def shapes_table(title: str, parts: Mapping[str, Any]) -> Table:
    """What the model returned in one pass."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(f"\n{title}", style="bold"), title_justify="left")
    table.add_column("", overflow="fold")
    for name in ("shape", "dimensions"):
        table.add_column(name, overflow="fold")
    table.add_column("type", no_wrap=True)
    table.add_column("bytes", justify="right", overflow="fold")
    for row in shape_rows(parts):
        table.add_row(*map(Text, (row.name, row.shape, printable(row.meaning), row.dtype, row.size)))
    return table


def _check_line(check: Check) -> Text:
    if check.passed:
        return Text.assemble(("✓ ", "green"), printable(f"{check.name}: {check.detail}"))
    advice = f" → {check.advice}" if check.advice else ""
    return Text.assemble(("✗ ", "bold red"), printable(f"{check.name}: {check.detail}{advice}"))
