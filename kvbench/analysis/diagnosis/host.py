"""A host that changed its speed, which may be all the cause there is."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair
from kvbench.analysis.host_speed import HostChange, moved, moved_text, unlike_kept, unlike_text
from kvbench.records.evidence import Sentence


def host_speed(pair: Pair) -> Sentence | None:
    """The change, in the place of the causes that it alone could explain."""
    change = explaining(pair)
    if change is None:
        return None
    told = (moved_text if change.pointers[0].startswith("/host_checks") else unlike_text)(change)
    consequence = "That alone may explain slow steps, so no cause is named that rests on launches or on reading."
    return Sentence(code="host_speed", text=f"{told[0].upper()}{told[1:]}. {consequence}", evidence=change.pointers)


def explaining(pair: Pair) -> HostChange | None:
    """A host that moved during the run, or is slower than it was when this machine's limits were measured."""
    checks = pair.record.host_checks
    if (change := moved(checks)) is not None:
        return change
    kept = unlike_kept(checks, pair.record.ceilings)
    return kept if kept is not None and kept.ratio > 1 else None
