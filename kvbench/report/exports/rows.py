"""Runs as flat rows, one per run and arm, which csv and parquet hold, and as the benchmarks of pytest-benchmark.

The format of the latter is the one that `pytest --benchmark-json` writes. One benchmark is one arm of one run, one
round is the mean time of a decode step in one block: blocks are the samples, steps within one are not independent.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import kvbench
from kvbench.arm import PARTS, arm_names
from kvbench.records.part import Estimate, Speedup
from kvbench.records.run_record import ArmRecord, Comparison, RunRecord
from kvbench.records.store import Hearer, StoredRun, nobody, read_blocks
from kvbench.report.metrics import METRICS, Metric
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_name
from kvbench.report.verdicts import extra_memory_bytes, pairs
from kvbench.text import printable

if TYPE_CHECKING:
    import pyarrow

BENCHMARK_GROUP = "decode step"
LANE = "throughput"
AGREEMENT = ("max_abs_logit_diff", "max_rel_logit_diff", "noise_rel", "allowed_rel", "argmax_flips")
LAW = {"launch_s": "launch_s", "per_token_s": "per_token_s", "per_token2_s": "per_token2_s", "ratio": "growth"}
# Columns, by their beginning, that say more of an arm than its metrics do.
MORE_COLUMNS = ("bound", "growth_", "break_even", "diagnosis", "agreement", *AGREEMENT)
Row = dict[str, str | float | int | None]


def _interval_types(name: str) -> dict[str, type]:
    return {name: float, f"{name}_ci_low": float, f"{name}_ci_high": float, f"{name}_level": float}


def _metric_types(metric: Metric) -> dict[str, type]:
    if metric.group == "speed":
        return _interval_types(metric.key) | {f"{metric.key}_n": int}
    return {metric.key: int if metric.unit in ("bytes", "count") else float}


# The same columns in every export, whatever the runs hold, so that exports of different days can be joined.
COLUMNS: dict[str, type] = {
    **dict.fromkeys(("run_id", "created_at", "name", "status", "status_reason", "kvbench_version", "compare_key"), str),
    **dict.fromkeys(("dtype", "device_name"), str),
    **dict.fromkeys(("prompts", "prompt_tokens_max", "new_tokens", "batch_size"), int),
    "arm": str,
    **PARTS,
    **{column: kind for metric in METRICS for column, kind in _metric_types(metric).items()},
    "bound": str,
    **{column: kind for name in LAW for column, kind in _interval_types(f"growth_{name}").items()},
    **dict.fromkeys(("growth_exponent", "growth_worst_error"), float),
    "growth_order": str,
    **dict.fromkeys(("baseline", "verdict", "not_a_result"), str),
    **_interval_types("speedup"),
    "speedup_n_blocks": int,
    **_interval_types("end_to_end_speedup"),
    "end_to_end_speedup_n_blocks": int,
    "agreement": str,
    **dict.fromkeys(("max_abs_logit_diff", "max_rel_logit_diff", "noise_rel", "allowed_rel"), float),
    **dict.fromkeys(("argmax_flips", "extra_memory_bytes", "break_even_context"), int),
    **dict.fromkeys(("break_even", "diagnosis"), str),
}


def flat_rows(records: Sequence[RunRecord]) -> list[Row]:
    """One row per run and arm, with every one of `COLUMNS`; a run without arms gets one row, so none is lost.

    Figures keep their base unit, which is in the column's name. The columns of the speed-up are filled in the rows
    of candidates, those of growth in the rows of a run over several lengths. A pair that is not a result has no
    speed-up and no break-even here, and the reason in `not_a_result`.
    """
    return [dict.fromkeys(COLUMNS) | row for record in records for row in _rows(record)]


def arm_table(records: Sequence[RunRecord]) -> pyarrow.Table:
    """The same as a table with the types of `COLUMNS`, its texts harmless to read."""
    import pyarrow

    rows = [
        {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in flat_rows(records)
    ]
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    return pyarrow.Table.from_pylist(rows, schema=schema)


def named_steps(steps: pyarrow.Table, record: RunRecord) -> pyarrow.Table:
    """A per-step table (see `records.step_table`) with `arm_name`, the name of each step's arm, behind `arm`."""
    import pyarrow

    names = pyarrow.array(map(printable, arm_names(record.arms)), pyarrow.string())
    place = steps.column_names.index("arm")
    return steps.add_column(place + 1, "arm_name", names.take(steps["arm"].combine_chunks()))


def _rows(record: RunRecord) -> Iterator[Row]:
    if not record.arms:
        yield _run_columns(record)
    for index, name in enumerate(arm_names(record.arms)):
        arm = record.arms[index]
        growth = _growth_columns(record, index)
        yield {**_run_columns(record), "arm": name, **_arm_columns(arm), **growth, **_pair_columns(record, index)}


def _run_columns(record: RunRecord) -> Row:
    model, workload = record.model or {}, record.workload
    return {
        "run_id": record.run_id,
        "created_at": record.created_at,
        "name": run_name(record),
        "status": record.status,
        "status_reason": record.status_reason,
        "kvbench_version": record.kvbench_version,
        "compare_key": record.keys.compare_key,
        "dtype": _text(model.get("dtype")),
        "device_name": _text(record.environment.get("device_name")),
        "prompts": len(workload.prompt_tokens) if workload else None,
        "prompt_tokens_max": max(workload.prompt_tokens, default=None) if workload else None,
        "new_tokens": workload.new_tokens if workload else None,
        "batch_size": workload.batch_size if workload else None,
    }


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


def _pair_columns(record: RunRecord, arm: int) -> Row:
    for comparison, pair in zip(record.comparisons, pairs(record), strict=True):
        if comparison.candidate_arm == arm:
            is_result = pair.not_a_result is None
            return {
                "baseline": pair.baseline,
                "verdict": comparison.verdict,
                "not_a_result": pair.not_a_result,
                **(_speedup_columns(comparison) if is_result else {}),
                "agreement": comparison.agreement.verdict,
                **{name: getattr(comparison.agreement, name) for name in AGREEMENT},
                "extra_memory_bytes": extra_memory_bytes(record, comparison),
                "break_even_context": comparison.break_even_context if is_result else None,
                "break_even": _break_even(record, arm) if is_result else None,
                "diagnosis": " ".join(sentence.text for sentence in comparison.diagnosis) or None,
            }
    return {}


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
                    "extra_info": _extra(run.record, index),
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


def _extra(record: RunRecord, arm: int) -> dict[str, Any]:
    """Everything else that is known of an arm, under the names of the csv export; what is unknown is left out."""
    row = flat_rows([record])[arm]
    own = {metric.key: row[metric.key] for metric in METRICS}
    more = {name: value for name, value in row.items() if name.startswith(MORE_COLUMNS) and value is not None}
    return {**own, **more, "run_id": record.run_id}


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
