"""Whether new runs are slower than old ones: one verdict for every arm of every pair of runs that may be compared.

Runs of different processes differ in ways that no number of blocks within one shows, so the process is the sample: its
runs are averaged first, and at least five processes a side make a verdict. Whatever cannot be told is not "no change".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kvbench.records.schema import RunRecord
from kvbench.statistics import Interval, geometric_mean, independent_ratio_interval

LEAST_PROCESSES = 5
RELEVANCE = 0.05  # across sessions, less moves by itself

Verdict = Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS", "INVALID"]


@dataclass(frozen=True)
class GateRow:
    """One arm of one kind of run, before and after. Rates are decode tokens/s, geometric means over processes."""

    example: RunRecord  # a run of this kind, for its names
    arm: int | None  # None: the runs could not be paired
    base_processes: int
    new_processes: int
    base_rate: float | None
    new_rate: float | None
    ratio: Interval | None  # new over base: above 1 is faster
    verdict: Verdict
    reason: str


def gate(base: Sequence[RunRecord], new: Sequence[RunRecord], relevance: float = RELEVANCE) -> tuple[GateRow, ...]:
    """A row per arm and `compare_key`, in the order in which the keys first occur; see `GateRow`.

    Of BASE the VALID runs count. A run in NEW that is not VALID makes its kind INVALID: it may be the very change.
    """
    old_by_key, new_by_key = _by_key(base), _by_key(new)
    rows: list[GateRow] = []
    for key in dict.fromkeys([*old_by_key, *new_by_key]):
        rows += _rows([run for run in old_by_key.get(key, ()) if run.valid], new_by_key.get(key, []), relevance) or [
            _unpaired((old_by_key.get(key) or new_by_key[key])[0], "no VALID run of this kind on either side")
        ]
    return tuple(rows)


def _by_key(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        found[run.keys.compare_key].append(run)
    return dict(found)


def _rows(old: list[RunRecord], new: list[RunRecord], relevance: float) -> list[GateRow]:
    if not new:
        return [_unpaired(old[0], "NEW has no run with this compare_key")] if old else []
    broken = [run for run in new if not run.valid]
    if broken:
        return [_unpaired(broken[0], f"{len(broken)} of {len(new)} runs in NEW: {broken[0].status}")]
    if not old:
        return [_unpaired(new[0], "BASE has no VALID run with this compare_key")]
    return [_row(old, new, arm, relevance) for arm in range(len(new[0].arms))]


def _unpaired(example: RunRecord, reason: str) -> GateRow:
    return GateRow(example, None, 0, 0, None, None, None, "INVALID", reason)


def _row(old: list[RunRecord], new: list[RunRecord], arm: int, relevance: float) -> GateRow:
    before, after = _per_process(old, arm), _per_process(new, arm)
    verdict: Verdict = "INVALID"
    ratio, reason = None, ""
    if min(map(len, (before, after))) < LEAST_PROCESSES:
        verdict = "AMBIGUOUS"
        reason = f"{len(before)} and {len(after)} processes, a verdict needs {LEAST_PROCESSES} a side"
    if min(map(len, (before, after))) >= 2:
        ratio = independent_ratio_interval(before, after)
    elif not before or not after:
        verdict, reason = "INVALID", "a run has no decode speed"
    if ratio is not None and not reason:
        verdict, reason = _judged(ratio, relevance)
    return GateRow(
        example=new[0],
        arm=arm,
        base_processes=len(before),
        new_processes=len(after),
        base_rate=geometric_mean(before) if before else None,
        new_rate=geometric_mean(after) if after else None,
        ratio=ratio,
        verdict=verdict,
        reason=reason,
    )


def _per_process(runs: Sequence[RunRecord], arm: int) -> list[float]:
    """Geometric mean rate of each process; one without a rate is left out."""
    rates: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for run in runs:
        rate = run.arms[arm].decode_tokens_per_s.value
        if rate is not None and rate > 0:
            worker = run.environment.get("worker") or {}
            # A record without a worker's identity is taken for a process of its own kind: all such are one.
            rates[(worker.get("pid"), worker.get("started_at"))].append(math.log(rate))
    return [math.exp(sum(logs) / len(logs)) for logs in rates.values()]


def _judged(ratio: Interval, relevance: float) -> tuple[Verdict, str]:
    low, high = 1 / (1 + relevance), 1 + relevance
    if ratio.low > high:
        return "FASTER", ""
    if ratio.high < low:
        return "SLOWER", ""
    if ratio.low >= low and ratio.high <= high:
        return "SAME", ""
    return "AMBIGUOUS", "the interval reaches across an edge of the band: more processes would tell"
