"""What every part of a record is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Base of the record's parts: immutable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Speedup(Part):
    """Candidate over baseline: above 1 the candidate is faster."""

    estimator: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    level: float | None = None
    n_blocks: int


class Estimate(Part):
    """A figure with its interval; `level` is the coverage attained, `n` the samples (blocks) behind it."""

    estimator: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    level: float | None = None
    n: int
