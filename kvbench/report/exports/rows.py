"""Runs as flat rows, for csv, parquet and queries (see `columns`), and as the benchmarks of pytest-benchmark.

The format of the latter is the one that `pytest --benchmark-json` writes. One benchmark is one arm of one run, one
round is the mean time of a decode step in one block: blocks are the samples, steps within one are not independent.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import kvbench
from kvbench.arm import arm_names
from kvbench.records.part import Estimate, Speedup
from kvbench.records.run_record import ArmRecord, Comparison, RunRecord
from kvbench.records.store import Hearer, StoredRun, nobody, read_blocks
from kvbench.report.exports.columns import COLUMNS, LAW, Row
from kvbench.report.metrics import METRICS
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_name
from kvbench.report.redaction import PLACE
from kvbench.report.verdicts import extra_memory_bytes, pairs

BENCHMARK_GROUP = "decode step"
LANE = "throughput"
AGREEMENT = ("max_abs_logit_diff", "max_rel_logit_diff", "noise_rel", "allowed_rel", "argmax_flips")
# Columns, by their beginning, that say more of an arm than its metrics do.
MORE_COLUMNS = ("bound", "growth_", "break_even", "diagnosis", "agreement", *AGREEMENT)


def flat_rows(runs: Iterable[StoredRun]) -> list[Row]:
    """One row per run and arm, with every one of `COLUMNS`; a run without arms gets one row, so none is lost.

    Figures keep their base unit, which is in the column's name. The columns of the speed-up are filled in the rows
    of candidates, those of growth in the rows of a run over several lengths. A pair that is not a result has no
    speed-up and no break-even here, and the reason in `not_a_result`.
    """
    return [dict.fromkeys(COLUMNS) | row for run in runs for row in arm_rows(run)]


def run_row(run: StoredRun) -> Row:
    """The columns `RUN`."""
    record = run.record
    model, workload, environment = record.model or {}, record.workload, record.environment
    return {
        "run_id": record.run_id,
        "created_at": record.created_at,
        "name": run_name(record),
        "status": record.status,
        "status_reason": record.status_reason,
        "kvbench_version": record.kvbench_version,
        "compare_key": record.keys.compare_key,
        "dtype": _text(model.get("dtype")),
        "device_name": _text(environment.get("device_name")),
        "prompts": len(workload.prompt_tokens) if workload else None,
        "prompt_tokens_max": max(workload.prompt_tokens, default=None) if workload else None,
        "new_tokens": workload.new_tokens if workload else None,
        "batch_size": workload.batch_size if workload else None,
        "model_revision": _text(model.get("revision")),
        "torch": _text(environment.get("torch")),
        "transformers": _text(environment.get("transformers")),
        "driver": _text(environment.get("driver")),
        "git_commit": _text(environment.get("git_commit")),
        "git_dirty": dirty if isinstance(dirty := environment.get("git_dirty"), bool) else None,
        "folder": PLACE if run.redacted else str(run.folder),
    }


def arm_rows(run: StoredRun) -> Iterator[Row]:
    """A row per arm, or one for a run without arms; columns that it cannot fill are left out."""
    record = run.record
    if not record.arms:
        yield run_row(run)
    own, paired = run_row(run), dict(reversed(list(_pairs(record))))  # the first pair of each candidate
    for index, name in enumerate(arm_names(record.arms)):
        growth, pair = _growth_columns(record, index), paired.get(index, {})
        yield {**own, "arm": name, **_arm_columns(record.arms[index]), **growth, **pair}


def comparison_rows(run: StoredRun) -> Iterator[Row]:
    """A row per comparison of two arms."""
    names = arm_names(run.record.arms)
    for candidate, row in _pairs(run.record):
        yield {**run_row(run), "candidate": names[candidate], **row}


def _arm_columns(arm: ArmRecord) -> Row:
    columns: Row = {**arm.parts}
    for metric in METRICS:
        figure = metric.read(arm)
        columns[metric.key] = metric.value(arm)
        if isinstance(figure, Estimate):
            columns |= _interval_columns(metric.key, figure) | {f"{metric.key}_n": figure.n}
    return columns | {"bound": arm.limit.bound}


def _growth_columns(record: RunRecord, arm: int) -> Row:
    """The fitted law of an arm, in a run over several lengths: `LAW` leads from a column to its field."""
    law = next((each for each in record.growth.laws if each.arm == arm), None) if record.growth else None
    if law is None:
        return {}
    columns: Row = {
        "growth_exponent": law.exponent,
        "growth_worst_error": law.worst_error,
        "growth_order": law.order,
    }
    for name, field in LAW.items():
        figure: Estimate | Speedup = getattr(law, field)
        columns |= {f"growth_{name}": figure.value, **_interval_columns(f"growth_{name}", figure)}
    return columns


def _break_even(record: RunRecord, arm: int) -> str | None:
    found = record.growth.break_evens if record.growth else ()
    return next((each.detail for each in found if each.candidate_arm == arm), None)


def _pairs(record: RunRecord) -> Iterator[tuple[int, Row]]:
    """The candidate of every comparison, and the columns `PAIR`."""
    for comparison, pair in zip(record.comparisons, pairs(record), strict=True):
        is_result = pair.not_a_result is None
        yield (
            comparison.candidate_arm,
            {
                "baseline": pair.baseline,
                "verdict": comparison.verdict,
                "not_a_result": pair.not_a_result,
                **(_speedup_columns(comparison) if is_result else {}),
                "agreement": comparison.agreement.verdict,
                **{name: getattr(comparison.agreement, name) for name in AGREEMENT},
                "extra_memory_bytes": extra_memory_bytes(record, comparison),
                "break_even_context": comparison.break_even_context if is_result else None,
                "break_even": _break_even(record, comparison.candidate_arm) if is_result else None,
                "diagnosis": " ".join(sentence.text for sentence in comparison.diagnosis) or None,
            },
        )


def _speedup_columns(comparison: Comparison) -> Row:
    columns: Row = {}
    for name, ratio in (("speedup", comparison.speedup), ("end_to_end_speedup", comparison.end_to_end_speedup)):
        columns |= {name: ratio.value, **_interval_columns(name, ratio), f"{name}_n_blocks": ratio.n_blocks}
    return columns


def _interval_columns(name: str, figure: Estimate | Speedup) -> Row:
    return {f"{name}_ci_low": figure.ci_low, f"{name}_ci_high": figure.ci_high, f"{name}_level": figure.level}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


# The benchmarks of pytest-benchmark.


def pytest_benchmark(runs: Sequence[StoredRun], tell: Hearer = nobody) -> dict[str, Any]:
    """The document. Machine and commit are those of the newest run; runs that are not valid are left out."""
    valid = [run for run in runs if run.record.valid]
    environment = valid[-1].record.environment if valid else {}
    return {
        "machine_info": _machine(environment),
        "commit_info": {
            "id": environment.get("git_commit") or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": bool(environment.get("git_dirty")),
            "project": "kvbench",
            "branch": "(unknown)",
        },
        "benchmarks": [benchmark for run in valid for benchmark in _benchmarks(run, tell)],
        "datetime": valid[-1].record.created_at if valid else None,
        "version": f"kvbench {kvbench.__version__}",
    }


def _machine(environment: Mapping[str, Any]) -> dict[str, Any]:
    device = environment.get("device_name") or environment.get("cpu")
    return {
        "node": "",
        "machine": environment.get("os"),
        "python_version": environment.get("python"),
        "cpu": {"brand_raw": environment.get("cpu"), "count": environment.get("logical_cores")},
        "device": device,
    }


def _benchmarks(run: StoredRun, tell: Hearer) -> list[dict[str, Any]]:
    benchmarks = []
    blocks = read_blocks(run.folder, tell)
    for index, name in enumerate(arm_names(run.record.arms)):
        rounds = step_rounds(blocks, index)
        if rounds:
            title = _title(run.record, name)
            benchmarks.append(
                {
                    "group": BENCHMARK_GROUP,
                    "name": title,
                    "fullname": title,
                    "params": None,
                    "param": None,
                    "extra_info": _extra(run, index),
                    "options": {},
                    "stats": _stats(rounds),
                }
            )
    return benchmarks


def step_rounds(every: Sequence[Mapping[str, Any]], arm: int) -> list[float]:
    """Seconds of a mean decode step of one arm, a value per block; blocks that were measured again are left out."""
    replaced = {block.get("repeats") for block in every}  # throttled, and measured again
    steps = (_step_s(block, arm) for block in every if block["index"] not in replaced)
    return [seconds for seconds in steps if seconds is not None]


def _extra(run: StoredRun, arm: int) -> dict[str, Any]:
    """Everything else that is known of an arm, under the names of the csv export; what is unknown is left out."""
    row = flat_rows([run])[arm]
    own = {metric.key: row[metric.key] for metric in METRICS}
    more = {name: value for name, value in row.items() if name.startswith(MORE_COLUMNS) and value is not None}
    return {**own, **more, "run_id": run.record.run_id}


def _title(record: RunRecord, arm: str) -> str:
    """The same for two runs of the same thing: compare pairs benchmarks by it."""
    return (
        f"{run_name(record)}[prompt={prompt_tokens(record)} new={new_tokens(record)} batch={batch_size(record)}] {arm}"
    )


def _step_s(block: Mapping[str, Any], arm: int) -> float | None:
    visits = [visit for visit in block["visits"] if visit["arm"] == arm and visit["lane"] == LANE]
    steps = sum(visit["steps"] for visit in visits)
    return sum(visit["decode_s"] for visit in visits) / steps if steps else None


def _stats(rounds: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(rounds)
    mean = statistics.fmean(ordered)
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
    q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    spread = q3 - q1
    inside = [value for value in ordered if q1 - 1.5 * spread <= value <= q3 + 1.5 * spread]
    far = sum(abs(value - mean) > deviation for value in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(ordered),
        "iterations": 1,
        "median": median,
        "iqr": spread,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(ordered) - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{len(ordered) - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": 1 / mean if mean else 0.0,
        "total": sum(ordered),
        "data": list(rounds),
    }
