"""What depends on the length, in the terminal: what fits, how a step grows, what each interruption cost."""

from __future__ import annotations

from dataclasses import astuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kvbench.records.run_record import RunRecord
from kvbench.report.console.style import GREYED, MOST_COLUMNS
from kvbench.report.formatting import UNKNOWN
from kvbench.report.frontier import TITLES, frontier_limit, frontier_rows
from kvbench.report.growth import BEYOND, growth_arms, growth_rows, growth_sentences, law_text
from kvbench.report.growth import CAPTION as GROWTH_CAPTION
from kvbench.report.headline import headlines
from kvbench.report.turns import CAPTION, turn_arms, turn_rows


def what_fits(record: RunRecord) -> RenderableType:
    """What fits; such a run has nothing else to show."""
    title = Text(f"what fits {frontier_limit(record)}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="")
    for name in TITLES:
        table.add_column(name, justify="right" if name in ("predicted", "found", "error") else "left", overflow="fold")
    for row in frontier_rows(record):
        table.add_row(*map(Text, astuple(row)))
    return Group(table, *(Text(each.sentence, style="bold") for each in headlines(record)))


def growth(record: RunRecord) -> list[RenderableType]:
    """How a step grows with the context; nothing for a run that did not vary it."""
    if record.growth is None:
        return []
    title = Text(GROWTH_CAPTION if record.valid else f"not a result: {GROWTH_CAPTION}", style="bold")
    sentences = [Text(sentence) for sentence in growth_sentences(record)] if record.valid else []
    if len(record.arms) > MOST_COLUMNS:
        names = growth_arms(record)
        laws = [Text(f"{names[law.arm]}: {law_text(law)}", style=GREYED) for law in record.growth.laws]
        return [title, *laws, *sentences, Text()]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("", overflow="fold")
    for name in growth_arms(record):
        table.add_column(Text(name), justify="right", overflow="fold")
    rows = growth_rows(record)
    for row, after in zip(rows, (*rows[1:], None), strict=True):
        table.add_row(
            *map(Text, (row.title, *row.cells)), end_section=after is not None and after.section != row.section
        )
    beyond = [Text(BEYOND, style=GREYED)] if any(total.beyond_range for total in record.growth.totals) else []
    return [title, table, *beyond, *sentences, Text()]


def turns(record: RunRecord) -> list[RenderableType]:
    """What each interruption cost; nothing for a run without any."""
    names = turn_arms(record)
    if not names:
        return []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(f"\n{CAPTION}"), title_justify="left", title_style="")
    for title in ("at new token", "context"):
        table.add_column(title, justify="right", overflow="fold")
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    rows = turn_rows(record)
    asked = any(row.paid_back != UNKNOWN for row in rows)
    if asked:
        table.add_column("paid back after", justify="right", overflow="fold")
    for row in rows:
        table.add_row(row.step, row.context, *map(Text, row.cells), *([row.paid_back] if asked else []))
    return [table]
