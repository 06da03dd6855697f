"""A sweep's first point measured once more at its end: whether the sweep held still meanwhile."""

from __future__ import annotations

from typing import Literal

from kvbench.records.meaning import figure
from kvbench.records.part import Part

Verdict = Literal["SAME", "FASTER", "SLOWER", "AMBIGUOUS"]


class ArmRepeated(Part):
    """One arm's ITL at the end of the sweep over that at its beginning: above 1 it became slower.

    The interval is the widest that the two runs' own intervals allow. FASTER and SLOWER are of the end; AMBIGUOUS is
    also what lacks an interval.
    """

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    itl_ratio: float | None = figure(
        "ITL at the end", "times", "lower", "Of the sweep, over that at its beginning: above 1 it became slower."
    )
    ci_low: float | None = figure(
        "interval, lower end", "times", "none", "Of the widest interval that those of the two runs allow."
    )
    ci_high: float | None = figure(
        "interval, upper end", "times", "none", "Of the widest interval that those of the two runs allow."
    )
    verdict: Verdict


class SweepAudit(Part):
    """This run against the first one of its sweep; `held_still` is None where that cannot be told of every arm."""

    first_run_id: str
    held_still: bool | None
    detail: str
    arms: tuple[ArmRepeated, ...]
