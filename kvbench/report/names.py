"""What a run is called and how its workload reads in a row of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kvbench.printable import printable
from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.formatting import UNKNOWN


def run_name(record: RunRecord) -> str:
    """The name that the configuration gives the run, else its model's, else its id."""
    model = record.model or {}
    configured = record.config.get("model")
    candidates = (
        record.config.get("name"),
        model.get("name"),
        configured.get("name") if isinstance(configured, Mapping) else configured,
        record.run_id,
    )
    return printable(next(str(name) for name in candidates if name))


def run_labels(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """What sets each run apart from the others, such as `prompt 128 · batch 4`; no two are the same."""
    aspects = [[run_name(record) for record in records], _prompts(records), *_sizes(records)]
    labels = _joined(records, aspects)
    labels = _told_apart(labels, [run_modes(record) for record in records])
    return tuple(_told_apart(labels, [f"run {number}" for number in range(1, len(records) + 1)]))


def prompt_series(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The same label for runs that differ in nothing but their prompts' length; empty when that holds for all."""
    return tuple(_joined(records, [[run_name(record) for record in records], *_sizes(records)]))


def _prompts(records: Sequence[RunRecord]) -> list[str]:
    return [f"prompt {prompt_tokens(record)}" for record in records]


def _sizes(records: Sequence[RunRecord]) -> list[list[str]]:
    return [[f"new {new_tokens(record)}" for record in records], [f"batch {batch_size(record)}" for record in records]]


def _told_apart(labels: Sequence[str], details: Sequence[str]) -> list[str]:
    """The labels, with its detail added to each that stands there more than once."""
    repeated = {label for label, count in Counter(labels).items() if count > 1}
    return [
        " · ".join(filter(None, (label, detail))) if label in repeated else label
        for label, detail in zip(labels, details, strict=True)
    ]


def _joined(records: Sequence[RunRecord], aspects: Sequence[Sequence[str]]) -> list[str]:
    varying = [values for values in aspects if len(set(values)) > 1]
    return [" · ".join(values[index] for values in varying) for index in range(len(records))]


def run_modes(record: RunRecord) -> str:
    """The arms of the run; the mode that was asked for when it has none."""
    if record.arms:
        return ", ".join(arm_names(record))
    return _configured(record.config, "mode")


def prompt_tokens(record: RunRecord) -> str:
    """Tokens of the prompts: one number, or the shortest and longest; as asked for when no prompt was read."""
    if record.workload is None or not record.workload.prompt_tokens:
        return _configured(record.config, "workload", "prompt_tokens")
    shortest, longest = min(record.workload.prompt_tokens), max(record.workload.prompt_tokens)
    return f"{longest:,}" if shortest == longest else f"{shortest:,}–{longest:,}"


def new_tokens(record: RunRecord) -> str:
    """New tokens of every sequence."""
    if record.workload is None:
        return _configured(record.config, "workload", "new_tokens")
    return f"{record.workload.new_tokens:,}"


def batch_size(record: RunRecord) -> str:
    """Sequences decoded together."""
    if record.workload is None:
        return _configured(record.config, "workload", "batch_size")
    return f"{record.workload.batch_size:,}"


def _configured(config: Mapping[str, Any], *keys: str) -> str:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return UNKNOWN if value is None else printable(str(value))
