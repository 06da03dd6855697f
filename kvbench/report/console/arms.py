"""The arms of a run side by side in the terminal, and why a figure of theirs is missing."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from kvbench.arm import arm_names
from kvbench.records.run_record import ArmRecord, RunRecord
from kvbench.report.console.style import GREYED, MOST_COLUMNS
from kvbench.report.formatting import UNKNOWN
from kvbench.report.growth import MIXTURE
from kvbench.report.metrics import BY_KEY, unknown
from kvbench.report.nulls import null_reason
from kvbench.report.preparations import preparations

# The rows of the comparison: what the measurement is about, and what it costs.
SPEED_ROWS = ("ttft_s", "itl_s", "decode_tokens_per_s", "end_to_end_tokens_per_s")
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
    return [*_mixture(record), *_notes(record), *_ceilings_note(record), *first, *_accounts(record)]


def _arms_as_columns(record: RunRecord) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    for name in arm_names(record.arms):
        table.add_column(Text(name), justify="right", overflow="fold")
    for key in SPEED_ROWS:
        _add_metric(table, record, key)
    if any(arm.bucket for arm in record.arms):
        _add_metric(table, record, "padding_share")
    table.add_section()
    for key in MEMORY_ROWS:
        _add_metric(table, record, key)
    for key in ("joules_per_token", "trace_cost"):
        _add_metric(table, record, key)
    table.add_row(Text("KV cache"), *(Text(_cache_bytes(arm)) for arm in record.arms))
    table.add_section()
    for key in LIMIT_ROWS:
        _add_metric(table, record, key)
    bounds = [arm.limit.bound or UNKNOWN for arm in record.arms]
    if set(bounds) != {UNKNOWN}:
        table.add_row(Text("bound by"), *map(Text, bounds))
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
        table.add_column(metric.title, justify="right", overflow="fold")
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        table.add_row(Text(name), *(Text(metric.show(arm)) for metric in shown))
    return table


def _add_metric(table: Table, record: RunRecord, key: str) -> None:
    metric = BY_KEY[key]
    if all(unknown(metric, arm) for arm in record.arms):
        return  # the note below the table says why
    table.add_row(Text(metric.title), *(Text(metric.show(arm)) for arm in record.arms))


def _cache_bytes(arm: ArmRecord) -> str:
    walked, predicted = BY_KEY["kv_cache_bytes"], BY_KEY["kv_cache_predicted_bytes"]
    if unknown(walked, arm):
        return UNKNOWN
    if unknown(predicted, arm):
        return f"{walked.show(arm)} (not predicted)"
    equal = walked.read(arm) == predicted.read(arm)
    return f"{walked.show(arm)} {'(as predicted)' if equal else f'(predicted {predicted.show(arm)})'}"


def _notes(record: RunRecord) -> list[Text]:
    """Why a figure of the table is missing: one line per metric that no arm has."""
    reasons: dict[str, list[str]] = {}
    for key in (*SPEED_ROWS, *MEMORY_ROWS, "kv_cache_bytes"):
        metric = BY_KEY[key]
        if all(unknown(metric, arm) for arm in record.arms):
            reasons.setdefault(null_reason(record, metric.pointer(0)), []).append(metric.title)
    return [Text(f"{', '.join(titles)}: not known, {reason}", style=GREYED) for reason, titles in reasons.items()]


def _mixture(record: RunRecord) -> list[Text]:
    """What a table of medians is of, where the run has several lengths on purpose."""
    return [Text(f"{MIXTURE}\n", style=GREYED)] if record.growth else []


def _ceilings_note(record: RunRecord) -> list[Text]:
    """How to learn the floor, where it takes nothing but the machine's ceilings."""
    if record.ceilings is not None or all(arm.limit.flops is None for arm in record.arms):
        return []
    if any(sentence.code == "no_ceilings" for each in record.comparisons for sentence in each.diagnosis):
        return []  # the diagnosis says so
    return [Text(f"floor, MBU, MFU: {null_reason(record, BY_KEY['floor_s'].pointer(0))}", style=GREYED)]


def _accounts(record: RunRecord) -> list[Text]:
    """Where the device's memory went, one line per arm that could be accounted for."""
    lines = []
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        if arm.memory.reconciliation is not None:
            parts = " + ".join(f"{BY_KEY[key].title} {BY_KEY[key].show(arm)}" for key in ACCOUNT)
            used = BY_KEY["device_used_bytes"].show(arm)
            lines.append(Text(f"{name}: {parts} = {used} in use", style=GREYED))
    return lines[:MOST_COLUMNS]
