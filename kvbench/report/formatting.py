"""Numbers with their intervals as people read them, and why a value is unknown."""

from __future__ import annotations

import math

from kvbench.records.part import Estimate, Speedup
from kvbench.records.run_record import RunRecord
from kvbench.text import UNKNOWN, Unit, format_interval, printable, scale


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
