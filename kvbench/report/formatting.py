"""Numbers with their intervals, as people read them; single ones are `kvbench.quantities`."""

from __future__ import annotations

import math

from kvbench.quantities import UNKNOWN, Unit, format_interval, format_value, scale
from kvbench.records.part import Estimate, Speedup

__all__ = [
    "UNKNOWN",
    "Unit",
    "axis_scale",
    "format_estimate",
    "format_exact",
    "format_level",
    "format_value",
]


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
