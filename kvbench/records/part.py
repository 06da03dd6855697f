"""What every part of a record is."""

from __future__ import annotations

from typing import Any, dataclass_transform

from pydantic import BaseModel, ConfigDict, Field

from kvbench.quantities import Unit, format_interval
from kvbench.records.meaning import figure


@dataclass_transform(kw_only_default=True, field_specifiers=(Field, figure))
class Part(BaseModel):
    """Base of the record's parts: immutable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Speedup(Part):
    """Candidate over baseline: above 1 the candidate is faster."""

    estimator: str
    value: float | None = figure("figure", "of its field", "none", "The figure itself.")
    ci_low: float | None = figure(
        "interval, lower end", "of its field", "none", "Lower end of the confidence interval.", default=None
    )
    ci_high: float | None = figure(
        "interval, upper end", "of its field", "none", "Upper end of the confidence interval.", default=None
    )
    level: float | None = figure(
        "coverage", "ratio", "none", "Share of such intervals that hold the true value.", default=None
    )
    n_blocks: int = figure("blocks", "count", "none", "Pairs of blocks behind the figure.")

    def __str__(self) -> str:
        return format_interval(self.value, self.ci_low, self.ci_high, "times")


class Estimate(Part):
    """A figure with its interval; `level` is the coverage attained, `n` the samples (blocks) behind it."""

    estimator: str
    value: float | None = figure("figure", "of its field", "none", "The figure itself.")
    ci_low: float | None = figure(
        "interval, lower end", "of its field", "none", "Lower end of the confidence interval.", default=None
    )
    ci_high: float | None = figure(
        "interval, upper end", "of its field", "none", "Upper end of the confidence interval.", default=None
    )
    level: float | None = figure(
        "coverage", "ratio", "none", "Share of such intervals that hold the true value.", default=None
    )
    n: int = figure("samples", "count", "none", "Blocks behind the figure.")

    def __str__(self) -> str:
        return format_interval(self.value, self.ci_low, self.ci_high, self.__dict__.get(UNIT, "count"))


UNIT = "_unit"
UNITS: tuple[tuple[str, Unit], ...] = (("tokens_per_s", "tokens/s"), ("_s", "s"), ("seconds", "s"))  # by a field's end


class Measured(Part):
    """Base of the parts that hold estimates, whose names carry the units in which `str` shows them."""

    def model_post_init(self, _context: Any) -> None:
        """Tell each estimate its unit: beside its fields, since it is no part of the record."""
        for name, value in self.__dict__.items():
            if isinstance(value, Estimate):
                unit = next((unit for end, unit in UNITS if name.endswith(end)), None)
                if unit is not None:
                    value.__dict__[UNIT] = unit
