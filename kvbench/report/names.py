"""What a run is called, how its workload reads, and numbers with their intervals as people read them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvbench.arm import arm_names
from kvbench.records.part import Estimate, Speedup
from kvbench.records.run_record import RunRecord
from kvbench.report.sentences import enumerated, say
from kvbench.text import UNKNOWN, Unit, format_interval, printable, scale

# Numbers with their intervals as people read them.


def format_estimate(estimate: Estimate | Speedup, unit: Unit) -> str:
    """A figure with its interval, such as `12.5 ms [12.3, 12.8]`; without one where the samples allowed none."""
    return format_interval(estimate.value, estimate.ci_low, estimate.ci_high, unit)


def format_level(level: float | None) -> str:
    """The coverage that an interval attained, such as `95 %` or `99.2 %`."""
    return UNKNOWN if level is None else f"{math.floor(level * 1000) / 10:g} %"


def format_exact(value: float | None, unit: Unit) -> str:
    """The number as recorded with its base unit, for a tooltip."""
    if value is None:
        return UNKNOWN
    return f"{value:,} {unit}" if isinstance(value, int) else f"{value!r} {unit}"


def axis_scale(values: list[float], unit: Unit) -> tuple[float, str]:
    """What to divide by, and the unit's name, so that the largest of the values reads well on an axis."""
    factor, suffix = scale(max(values, default=1.0), unit)
    return factor, suffix.strip()


# Why a value of a record is unknown.


NOT_GIVEN = "the record gives no reason"


def null_reason(record: RunRecord, pointer: str) -> str:
    """The reason for the null at a JSON pointer such as `/arms/0/energy/joules_per_token`.

    A reason given for an estimate's `value`, or for the part that the pointer lies in, counts too; the nearest wins.
    """
    reasons = record.null_reasons
    candidates = [pointer, f"{pointer}/value"]
    while "/" in pointer.strip("/"):
        pointer = pointer.rpartition("/")[0]
        candidates.append(pointer)
    return printable(next((reasons[candidate] for candidate in candidates if candidate in reasons), NOT_GIVEN))


# What a run is called, and what sets it apart from others.


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


@dataclass(frozen=True, slots=True)
class Aspects:
    """What may set one run of a page apart from another, as text."""

    name: str
    device: str
    prompt: str
    new: str
    batch: str
    modes: str


def run_aspects(record: RunRecord) -> Aspects:
    """The aspects of one run; kept in its stead where thousands of runs are labelled."""
    return Aspects(
        name=run_name(record),
        device=device_name(record),
        prompt=prompt_tokens(record),
        new=new_tokens(record),
        batch=batch_size(record),
        modes=run_modes(record),
    )


def run_labels(runs: Sequence[Aspects]) -> tuple[str, ...]:
    """What sets each run apart from the others, such as `prompt 128 · batch 4`; no two are the same."""
    labels = _joined(
        [run.name for run in runs],
        _devices(runs),
        [say("label.prompt", count=run.prompt) for run in runs],
        *_sizes(runs),
    )
    if len({run.modes for run in runs}) > 1:
        labels = _told_apart(labels, [run.modes for run in runs])
    return tuple(_told_apart(labels, [say("label.run", number=number) for number in range(1, len(runs) + 1)]))


def prompt_series(runs: Sequence[Aspects]) -> tuple[str, ...]:
    """The same label for runs that differ in nothing but their prompts' length; empty when that holds for all."""
    return tuple(_joined([run.name for run in runs], _devices(runs), *_sizes(runs)))


def _devices(runs: Sequence[Aspects]) -> list[str]:
    """A run that ended before its device was known is no device of its own."""
    known = {run.device for run in runs} - {UNKNOWN}
    return [run.device if len(known) > 1 else "" for run in runs]


def _sizes(runs: Sequence[Aspects]) -> list[list[str]]:
    return [[say(f"label.{kind}", count=getattr(run, kind)) for run in runs] for kind in ("new", "batch")]


def _told_apart(labels: Sequence[str], details: Sequence[str]) -> list[str]:
    """The labels, with its detail added to each that stands there more than once."""
    repeated = {label for label, count in Counter(labels).items() if count > 1}
    return [
        " · ".join(filter(None, (label, detail))) if label in repeated else label
        for label, detail in zip(labels, details, strict=True)
    ]


def _joined(*aspects: Sequence[str]) -> list[str]:
    varying = [values for values in aspects if len(set(values)) > 1]
    return [" · ".join(filter(None, values)) for values in zip(*varying, strict=True)] or [""] * len(aspects[0])


# How its workload reads.


def device_name(record: RunRecord) -> str:
    """The device that computed: its GPU, else its CPU."""
    environment = record.environment
    return printable(str(environment.get("device_name") or environment.get("cpu") or UNKNOWN))


def run_modes(record: RunRecord) -> str:
    """The arms of the run; the mode that was asked for when it has none."""
    if record.arms:
        return enumerated(arm_names(record.arms))
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
