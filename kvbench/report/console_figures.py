"""The figures of a run in the terminal: its arms side by side, and what depends on the length."""

from __future__ import annotations

from dataclasses import astuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from kvbench.arm import arm_names
from kvbench.capabilities import MODE_ARMS
from kvbench.records.run_record import ArmRecord, RunRecord
from kvbench.report.lengths import (
    FRONTIER_HEADS,
    OF_NUMBERS,
    frontier_limit,
    frontier_rows,
    growth_arms,
    growth_rows,
    growth_sentences,
    law_text,
)
from kvbench.report.metrics import BY_KEY, unknown
from kvbench.report.names import null_reason
from kvbench.report.prose import Text
from kvbench.report.run_facts import modes_in_words, preparations, turn_arms, turn_rows
from kvbench.report.sentences import enumerated, joined, own_words, say
from kvbench.report.verdicts import headlines
from kvbench.text import UNKNOWN

# What the parts of the console have in common: colours, which only repeat what words say, and the width.


MOST_COLUMNS = 4  # arms side by side on eighty characters
STYLES = {"VALID": "green", "FASTER": "green", "INVALID": "red", "SLOWER": "red", "AMBIGUOUS": "yellow"}
GREYED = "dim"


# The arms of a run side by side in the terminal, and why a figure of theirs is missing.


# The rows of the comparison: what the measurement is about, and what it costs.
SPEED_ROWS = ("ttft_s", "itl_s", "decode_tokens_per_s", "end_to_end_tokens_per_s")
PROPOSAL_ROWS = ("acceptance", "tokens_per_pass", "pass_s", "draft_weights_bytes", "draft_kv_cache_bytes")
LIMIT_ROWS = ("floor_s", "mbu", "mfu", "launch_s")
MEMORY_ROWS = ("weights_bytes", "peak_allocated_bytes", "device_used_bytes", "process_rss_bytes")
ACCOUNT = (
    "weights_bytes",
    "kv_cache_storage_bytes",
    "step_peak_bytes",
    "allocator_slack_bytes",
    "device_context_bytes",
    "kernels_bytes",
    "elsewhere_bytes",
    "unexplained_bytes",
)
NARROW_COLUMNS = ("ttft_s", "itl_s", "peak_allocated_bytes", "kv_cache_bytes")


def arms_table(record: RunRecord) -> Table:
    """One column per arm with its figures, or one row where the arms are more than a terminal is wide."""
    return _arms_as_columns(record) if len(record.arms) <= MOST_COLUMNS else _arms_as_rows(record)


def arm_notes(record: RunRecord) -> list[Text]:
    """What belongs below the table: what it is of, what it lacks and why, and where the memory went."""
    first = [Text(sentence, style=GREYED) for sentence in preparations(record)]
    return [*_modes(record), *_mixture(record), *_notes(record), *_ceilings_note(record), *first, *_accounts(record)]


def _arms_as_columns(record: RunRecord) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    for name in arm_names(record.arms):
        table.add_column(Text(name), justify="right", overflow="fold")
    for key in SPEED_ROWS:
        _add_metric(table, record, key)
    if any(arm.bucket for arm in record.arms):
        _add_metric(table, record, "padding_share")
    for key in PROPOSAL_ROWS if any(arm.proposes for arm in record.arms) else ():
        _add_metric(table, record, key)
    table.add_section()
    for key in MEMORY_ROWS:
        _add_metric(table, record, key)
    for key in ("joules_per_token", "trace_cost"):
        _add_metric(table, record, key)
    table.add_row(Text(say("row.kv-cache")), *(Text(_cache_bytes(arm)) for arm in record.arms))
    table.add_section()
    for key in LIMIT_ROWS:
        _add_metric(table, record, key)
    bounds = [arm.limit.bound for arm in record.arms]
    if any(bounds):
        shown = (UNKNOWN if bound is None else say(f"bound.{bound}") for bound in bounds)
        table.add_row(Text(say("row.bound-by")), *map(Text, shown))
    return table


def _arms_as_rows(record: RunRecord) -> Table:
    """Fewer figures, for more arms than a terminal is wide."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    shown = [
        metric
        for metric in map(BY_KEY.__getitem__, NARROW_COLUMNS)
        if not all(unknown(metric, arm) for arm in record.arms)
    ]
    for metric in shown:
        table.add_column(Text(metric.name), justify="right", overflow="fold")
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        table.add_row(Text(name), *(Text(metric.show(arm)) for metric in shown))
    return table


def _add_metric(table: Table, record: RunRecord, key: str) -> None:
    metric = BY_KEY[key]
    if all(unknown(metric, arm) for arm in record.arms):
        return  # the note below the table says why
    table.add_row(Text(metric.name), *(Text(metric.show(arm)) for arm in record.arms))


def _cache_bytes(arm: ArmRecord) -> str:
    walked, predicted = BY_KEY["kv_cache_bytes"], BY_KEY["kv_cache_predicted_bytes"]
    if unknown(walked, arm):
        return UNKNOWN
    if unknown(predicted, arm):
        return say("cache.not-predicted", held=walked.show(arm))
    if walked.read(arm) == predicted.read(arm):
        return say("cache.as-predicted", held=walked.show(arm))
    return say("cache.predicted", held=walked.show(arm), predicted=predicted.show(arm))


def _notes(record: RunRecord) -> list[Text]:
    """Why a figure of the table is missing: one line per metric that no arm has."""
    reasons: dict[str, list[str]] = {}
    for key in (*SPEED_ROWS, *MEMORY_ROWS, "kv_cache_bytes"):
        metric = BY_KEY[key]
        if all(unknown(metric, arm) for arm in record.arms):
            reasons.setdefault(null_reason(record, metric.pointer(0)), []).append(metric.name)
    return [
        Text(say("terminal.unknown", figures=enumerated(names), reason=own_words(reason)), style=GREYED)
        for reason, names in reasons.items()
    ]


def _modes(record: RunRecord) -> list[Text]:
    """What the modes do, where there is another one than those with and without a cache that a run has by default."""
    if {arm.mode for arm in record.arms} <= set(MODE_ARMS["both"]):
        return []
    return [Text(f"{joined(*modes_in_words(record))}\n", style=GREYED)]


def _mixture(record: RunRecord) -> list[Text]:
    """What a table of medians is of, where the run has several lengths on purpose."""
    return [Text(say("growth.mixture") + "\n", style=GREYED)] if record.growth else []


def _ceilings_note(record: RunRecord) -> list[Text]:
    """How to learn the floor, where it takes nothing but the machine's ceilings."""
    if record.ceilings is not None or all(arm.limit.flops is None for arm in record.arms):
        return []
    if any(sentence.code == "no_ceilings" for each in record.comparisons for sentence in each.diagnosis):
        return []  # the diagnosis says so
    reason = own_words(null_reason(record, BY_KEY["floor_s"].pointer(0)))
    return [Text(say("terminal.no-ceilings", reason=reason), style=GREYED)]


def _accounts(record: RunRecord) -> list[Text]:
    """Where the device's memory went, one line per arm that could be accounted for."""
    lines = []
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        if arm.memory.reconciliation is not None:
            parts = " + ".join(f"{BY_KEY[key].name} {BY_KEY[key].show(arm)}" for key in ACCOUNT)
            used = BY_KEY["device_used_bytes"].show(arm)
            lines.append(Text(say("terminal.account", name=name, parts=parts, used=used), style=GREYED))
    return lines[:MOST_COLUMNS]


# What depends on the length, in the terminal: what fits, how a step grows, what each interruption cost.


def what_fits(record: RunRecord) -> RenderableType:
    """What fits; such a run has nothing else to show."""
    title = Text(frontier_limit(record))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="")
    for code in FRONTIER_HEADS:
        table.add_column(Text(say(code)), justify="right" if code in OF_NUMBERS else "left", overflow="fold")
    for row in frontier_rows(record):
        table.add_row(*map(Text, astuple(row)))
    return Group(table, *(Text(each.sentence, style="bold") for each in headlines(record)))


def growth(record: RunRecord) -> list[RenderableType]:
    """How a step grows with the context; nothing for a run that did not vary it."""
    if record.growth is None:
        return []
    caption = say("growth.caption")
    title = Text(caption if record.valid else say("terminal.not-a-result", reason=caption), style="bold")
    sentences = [Text(sentence) for sentence in growth_sentences(record)] if record.valid else []
    if len(record.arms) > MOST_COLUMNS:
        names = growth_arms(record)
        laws = [
            Text(say("terminal.told", subject=names[law.arm], text=law_text(law)), style=GREYED)
            for law in record.growth.laws
        ]
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
    beyond = (
        [Text(say("growth.beyond"), style=GREYED)] if any(total.beyond_range for total in record.growth.totals) else []
    )
    return [title, table, *beyond, *sentences, Text()]


def turns(record: RunRecord) -> list[RenderableType]:
    """What each interruption cost; nothing for a run without any."""
    names = turn_arms(record)
    if not names:
        return []
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=Text("\n" + say("turns.caption")),
        title_justify="left",
        title_style="",
    )
    for code in ("turns.step", "turns.context"):
        table.add_column(Text(say(code)), justify="right", overflow="fold")
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    rows = turn_rows(record)
    asked = any(row.paid_back != UNKNOWN for row in rows)
    if asked:
        table.add_column(Text(say("turns.paid-back")), justify="right", overflow="fold")
    for row in rows:
        table.add_row(row.step, row.context, *map(Text, row.cells), *([row.paid_back] if asked else []))
    return [table]
