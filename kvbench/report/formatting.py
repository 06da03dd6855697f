"""Numbers as people read them: a unit that fits, three significant digits, the interval in brackets."""

from __future__ import annotations

import math
from typing import Literal

from kvbench.records.part import Estimate, Speedup

Unit = Literal["s", "bytes", "tokens/s", "J/token", "W", "ratio", "times", "count"]

UNKNOWN = "—"
SIGNIFICANT_DIGITS = 3
MOST_DECIMALS = 6  # an interval narrower than this prints as two equal bounds
SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns"), (1e-12, " ps"), (1e-15, " fs")),
    "bytes": ((2.0**40, " TiB"), (2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B")),
    "tokens/s": ((1.0, " tok/s"),),
    "J/token": ((1.0, " J/token"), (1e-3, " mJ/token")),
    "W": ((1.0, " W"),),
    "ratio": ((0.01, " %"),),
    "times": ((1.0, "×"),),
}


def format_value(value: float | None, unit: Unit) -> str:
    """A number with its unit, such as `12.5 ms` or `4.67 GiB`; an em dash for None."""
    if value is None:
        return UNKNOWN
    if unit == "count":
        return f"{value:,.0f}"
    scale, suffix = _scale(value, unit)
    return f"{_fixed(value / scale, _decimals(value / scale))}{suffix}"


def format_estimate(estimate: Estimate | Speedup, unit: Unit) -> str:
    """A figure with its interval, such as `12.5 ms [12.3, 12.8]`; without one where the samples allowed none."""
    value, low, high = estimate.value, estimate.ci_low, estimate.ci_high
    if value is None or low is None or high is None:
        return format_value(value, unit)
    scale, suffix = _scale(value, unit)
    value, low, high = value / scale, low / scale, high / scale
    decimals = _decimals(value)
    # Bounds that round to one number would claim a certainty that was not measured.
    while low < high and decimals < MOST_DECIMALS and _fixed(low, decimals) == _fixed(high, decimals):
        decimals += 1
    return f"{_fixed(value, decimals)}{suffix} [{_fixed(low, decimals)}, {_fixed(high, decimals)}]"


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
    scale, suffix = _scale(max(values, default=1.0), unit)
    return scale, suffix.strip()


def _scale(value: float, unit: Unit) -> tuple[float, str]:
    scales = SCALES[unit]
    size = abs(value)
    if size == 0:
        return scales[-1] if unit == "bytes" else scales[0]
    for scale, suffix in scales:
        # Rounded first: 999.9 µs is 1.00 ms, not 1000 µs.
        if float(f"{size / scale:.{SIGNIFICANT_DIGITS - 1}e}") >= 1:
            return scale, suffix
    return scales[-1]


def _decimals(value: float) -> int:
    if value == 0:
        return 0
    magnitude = math.floor(math.log10(abs(float(f"{value:.{SIGNIFICANT_DIGITS - 1}e}"))))
    return min(max(SIGNIFICANT_DIGITS - 1 - magnitude, 0), MOST_DECIMALS)


def _fixed(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}"
