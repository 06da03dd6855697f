"""Runs in the JSON format of pytest-benchmark, so that `pytest-benchmark compare` reads them.

The format is the one that `pytest --benchmark-json` writes. One benchmark is one arm of one run, one round is the
mean time of a decode step in one block: blocks are the samples, steps within one are not independent.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import kvbench
from kvbench.arm import arm_names
from kvbench.records.schema import RunRecord
from kvbench.records.store import StoredRun, read_blocks
from kvbench.report.exports.rows import AGREEMENT, flat_rows
from kvbench.report.metrics import METRICS
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_name

GROUP = "decode step"
LANE = "throughput"
# Columns of the csv export, by their beginning, that say more of an arm than its metrics do.
MORE = ("bound", "growth_", "break_even", "diagnosis", "agreement", *AGREEMENT)


def pytest_benchmark(runs: Sequence[StoredRun]) -> dict[str, Any]:
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
        "benchmarks": [benchmark for run in valid for benchmark in _benchmarks(run)],
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


def _benchmarks(run: StoredRun) -> list[dict[str, Any]]:
    benchmarks = []
    for index, name in enumerate(arm_names(run.record.arms)):
        rounds = step_rounds(run, index)
        if rounds:
            title = _title(run.record, name)
            benchmarks.append(
                {
                    "group": GROUP,
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


def step_rounds(run: StoredRun, arm: int) -> list[float]:
    """Seconds of a mean decode step of one arm, a value per block; blocks that were measured again are left out."""
    every = read_blocks(run.folder)
    replaced = {block.get("repeats") for block in every}  # throttled, and measured again
    steps = (_step_s(block, arm) for block in every if block["index"] not in replaced)
    return [seconds for seconds in steps if seconds is not None]


def _extra(record: RunRecord, arm: int) -> dict[str, Any]:
    """Everything else that is known of an arm, under the names of the csv export; what is unknown is left out."""
    row = flat_rows([record])[arm]
    own = {metric.key: row[metric.key] for metric in METRICS}
    more = {name: value for name, value in row.items() if name.startswith(MORE) and value is not None}
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
