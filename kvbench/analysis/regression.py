"""Whether new runs are slower than old ones: one verdict for every arm of every pair of runs that may be compared.

Runs of different processes differ in ways that no number of blocks within one shows, so the process is the sample: its
runs are averaged first, and at least five processes a side make a verdict. Whatever cannot be told is not "no change".
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvbench.analysis.comparison import OF_SPEEDS, place
from kvbench.options import RELEVANT_ACROSS_RUNS
from kvbench.records.run_record import ArmRecord, RunRecord, SpeedVerdict
from kvbench.statistics import LEVEL, Interval, geometric_mean, independent_ratio_interval, ratio_interval

# Which runs may be compared, and in what others differ.


REVISION = "model.revision"


def kind_of(run: RunRecord, *, any_revision: bool = False) -> str:
    """The `compare_key` of a run, in today's form; with `any_revision` without the commit of its model.

    Older records have a key without the commit, and state it elsewhere.
    """
    digest, _, commit = run.keys.compare_key.partition("@")
    if any_revision:
        return digest
    commit = commit or str((run.model or {}).get("revision") or "")
    return f"{digest}@{commit}" if commit else digest


def difference(run: RunRecord, other: RunRecord) -> list[str]:
    """Every entry in which the two differ and that a `compare_key` holds, such as `device_name (A, there B)`."""
    own, its = comparable(run), comparable(other)
    names = [name for name in dict.fromkeys([*own, *its]) if own.get(name) != its.get(name)]
    return [f"{name} ({own.get(name)}, there {its.get(name)})" for name in names]


def comparable(run: RunRecord) -> dict[str, Any]:
    """The parts of `compare_key` that a record tells; `make_keys` says which."""
    model = run.model or {}
    configured = run.config.get("model")
    asked = configured if isinstance(configured, dict) else {}
    return {
        "model": model.get("name", asked.get("name")),
        "dtype": model.get("dtype", asked.get("dtype")),
        "quantization": asked.get("quantization"),
        REVISION: model.get("revision"),
        "model.device_map": asked.get("device_map"),
        "model.tensor_parallel": asked.get("tensor_parallel") or 1,
        "device_count": len(run.environment.get("device_names") or ()) if asked.get("device_map") else None,
        "device_name": run.environment.get("device_name", run.config.get("device")),
        **_entries(run, "workload"),
        **_entries(run, "sampling"),
        "arms": ", ".join(map(_arm, run.arms)),
    }


def _arm(arm: ArmRecord) -> str:
    """Such as `nocache/none/compiled/auto/none/reduce-overhead/64`: what is set of it."""
    return "/".join(str(value) for value in arm.parts.values() if value is not None)


def _entries(run: RunRecord, group: str) -> dict[str, Any]:
    values = run.config.get(group)
    return {f"{group}.{key}": value for key, value in values.items()} if isinstance(values, dict) else {}


# The verdict.


LEAST_PROCESSES = 5

Process = tuple[object, object]  # the worker's pid and the time of its start


@dataclass(frozen=True)
class RegressionRow:
    """One arm of one kind of run, before and after. Rates are decode tokens/s, geometric means over processes."""

    example: RunRecord  # a run of this kind, for its names
    arm: int | None  # None: the runs could not be paired
    base_processes: int
    new_processes: int
    base_rate: float | None
    new_rate: float | None
    ratio: Interval | None  # new over base: above 1 is faster
    verdict: SpeedVerdict
    reason: str
    base_interval: Interval | None = None  # of base_rate; None with fewer than two processes
    new_interval: Interval | None = None

    @property
    def passes(self) -> bool:
        """Whether the arm is known to be no slower."""
        return self.verdict in ("SAME", "FASTER")


def gate(
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    relevance: float = RELEVANT_ACROSS_RUNS,
    *,
    among: int = 0,
    any_revision: bool = False,
) -> tuple[RegressionRow, ...]:
    """A row per arm and `compare_key`, in the order in which the keys first occur.

    Of BASE the VALID runs count. A run in NEW that is not VALID makes its kind INVALID: it may be the very change.
    FASTER and SLOWER allow for the number of rows, or for `among` where more are judged elsewhere: the chance that
    unchanged code gets either word in any of them stays at 5 %. With `any_revision` two commits of a model's
    repository are compared like two versions of the code.
    """
    old_by_key, new_by_key = _by_key(base, any_revision), _by_key(new, any_revision)
    pairs = [_pair(key, old_by_key, new_by_key) for key in dict.fromkeys([*old_by_key, *new_by_key])]
    family = max(among, 1, sum(len(pair.new[0].arms) for pair in pairs if isinstance(pair, _Pair)))
    rows: list[RegressionRow] = []
    for pair in pairs:
        rows += [pair] if isinstance(pair, RegressionRow) else pair.rows(relevance, family)
    return tuple(rows)


@dataclass(frozen=True)
class _Pair:
    """Runs of one kind before and after: VALID, of the same arms, of processes that are on one side only."""

    old: list[RunRecord]
    new: list[RunRecord]

    def rows(self, relevance: float, family: int) -> list[RegressionRow]:
        return [self._row(arm, relevance, family) for arm in range(len(self.new[0].arms))]

    def _row(self, arm: int, relevance: float, family: int) -> RegressionRow:
        before, after = _per_process(self.old, arm), _per_process(self.new, arm)
        verdict: SpeedVerdict = "AMBIGUOUS"
        ratio, reason = None, ""
        if min(len(before), len(after)) >= 2:
            ratio = independent_ratio_interval(before, after)
        if ratio is None or min(len(before), len(after)) < LEAST_PROCESSES:
            reason = f"{len(before)} and {len(after)} processes, a verdict needs {LEAST_PROCESSES} a side"
        else:
            # Bonferroni's correction, against "nothing has changed": docs/decisions/0022.
            apart = independent_ratio_interval(before, after, 1 - (1 - LEVEL) / family)
            verdict, reason = _judged(ratio, apart, relevance, family)
        return RegressionRow(
            example=self.new[0],
            arm=arm,
            base_processes=len(before),
            new_processes=len(after),
            base_rate=geometric_mean(before),
            new_rate=geometric_mean(after),
            ratio=ratio,
            verdict=verdict,
            reason=reason,
            base_interval=ratio_interval(before) if len(before) > 1 else None,
            new_interval=ratio_interval(after) if len(after) > 1 else None,
        )


def _by_key(runs: Sequence[RunRecord], any_revision: bool) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        found[kind_of(run, any_revision=any_revision)].append(run)
    return dict(found)


def _pair(
    key: str, old_by_key: dict[str, list[RunRecord]], new_by_key: dict[str, list[RunRecord]]
) -> _Pair | RegressionRow:
    """The runs of one kind, or a row that tells why they cannot be compared."""
    every_old, new = old_by_key.get(key, []), new_by_key.get(key, [])
    old = [run for run in every_old if run.valid]
    if not new:
        return _unpaired(every_old[0], "NEW has no run with this compare_key" + _nearest(every_old[0], new_by_key))
    broken = [run for run in new if not run.valid]
    if broken:
        return _unpaired(broken[0], f"{len(broken)} of {len(new)} runs in NEW: {broken[0].status}")
    if not old:
        found = f", {len(every_old)} that ended {every_old[0].status}" if every_old else _nearest(new[0], old_by_key)
        return _unpaired(new[0], f"BASE has no VALID run with this compare_key{found}")
    shared = {process_of(run) for run in old} & {process_of(run) for run in new}
    if shared:
        return _unpaired(new[0], f"{len(shared)} processes are in BASE and in NEW: a run cannot be its own baseline")
    return _unpaired(new[0], reason) if (reason := _unlike([*new, *old])) else _Pair(old, new)


def _unlike(runs: Sequence[RunRecord]) -> str | None:
    """Why arms cannot be compared by their position, or at all; None when they can."""
    if not runs[0].arms:
        return "the runs have no arms, so there is no decode speed to compare"
    if any([arm.parts for arm in run.arms] != [arm.parts for arm in runs[0].arms] for run in runs):
        return "runs with this compare_key have different arms, or the same in another order"
    silent = [run for run in runs if not all((arm.decode_tokens_per_s.value or 0) > 0 for arm in run.arms)]
    return f"{len(silent)} of {len(runs)} runs have an arm without a decode speed" if silent else None


def _nearest(run: RunRecord, others: dict[str, list[RunRecord]]) -> str:
    """What sets a run apart from the one most like it on the other side."""
    differences = [difference(run, candidates[0]) for candidates in others.values()]
    if not differences or not all(differences):
        return ""
    nearest = min(differences, key=len)
    remedy = ": --any-revision compares the two" if len(nearest) == 1 and nearest[0].startswith(REVISION) else ""
    return f"; the nearest differs in {nearest[0]}{remedy}"


def _unpaired(example: RunRecord, reason: str) -> RegressionRow:
    return RegressionRow(example, None, 0, 0, None, None, None, "INVALID", reason)


def process_of(run: RunRecord) -> Process:
    """The identity of the process that decoded; records without one are all taken for one process."""
    worker = run.environment.get("worker") or {}
    return worker.get("pid"), worker.get("started_at")


def _per_process(runs: Sequence[RunRecord], arm: int) -> list[float]:
    """Geometric mean rate of each process."""
    logs: dict[Process, list[float]] = defaultdict(list)
    for run in runs:
        rate = run.arms[arm].decode_tokens_per_s.value
        assert rate is not None
        logs[process_of(run)].append(math.log(rate))
    return [math.exp(sum(each) / len(each)) for each in logs.values()]


def _judged(ratio: Interval, apart: Interval, relevance: float, family: int) -> tuple[SpeedVerdict, str]:
    verdict = OF_SPEEDS[place(ratio.low, ratio.high, relevance)]
    if verdict == "AMBIGUOUS":
        return verdict, "the interval reaches across an edge of the band: more processes would tell"
    if verdict != "SAME" and apart.low <= 1 <= apart.high:
        return "AMBIGUOUS", f"{verdict} by itself, but one of {family} may look so by chance: more processes would tell"
    return verdict, ""


def worst(rows: Sequence[RegressionRow]) -> SpeedVerdict:
    """The verdict over all rows: known to be slower, then not to be compared, then unclear, then the best of the rest.

    No rows are INVALID.
    """
    counts = Counter(row.verdict for row in rows)
    order: tuple[SpeedVerdict, ...] = ("SLOWER", "INVALID", "AMBIGUOUS", "SAME", "FASTER")
    return next((verdict for verdict in order if counts[verdict]), "INVALID")
