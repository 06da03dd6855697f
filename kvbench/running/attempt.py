"""The worker's part of a frontier: tell what there is, or decode one size and survive it."""

from __future__ import annotations

from kvbench.errors import OutOfMemory
from kvbench.plan import Plan
from kvbench.records.scaling import Attempted, Attempting
from kvbench.running.job import Emit
from kvbench.running.session import Session


def run_attempt(plan: Plan, session: Session, emit: Emit) -> None:
    """Without an attempt in the plan: model and capacity. With one: that size.

    Raises `OutOfMemory` also for a try that came to its end with more than it was allowed: its parent looks at it
    every few milliseconds and can miss a peak, the high-water mark cannot.
    """
    attempt = plan.attempt
    if attempt is None:
        emit(session.prepared)
        emit(session.capacity())
        return
    emit(Attempting())
    peak_bytes = session.attempt(attempt)
    emit(Attempted(peak_bytes))
    if attempt.limit_bytes is not None and peak_bytes is not None and peak_bytes > attempt.limit_bytes:
        raise OutOfMemory(f"came to its end with {peak_bytes:,} bytes, and {attempt.limit_bytes:,} are allowed")
