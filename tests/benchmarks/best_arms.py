"""The table of speed-ups, cached ÷ recompute, eager and at their best, out of the run folders that a sweep left.

    python -m kvbench -m experiment=best_arms_gpu model=gemma2b model.weights=random results_dir=best-arms \\
        workload.prompt_tokens=128,1024,4096,8176 workload.batch_size=1,8,32 workload.new_tokens=16
    python tests/benchmarks/best_arms.py best-arms

Reads records alone. A speed-up is the geometric mean of the blocks' ratios with its 95 % interval; the best arm of a
mode is the one with the most decode tokens/s in that run. A point that has no speed-up says why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kvbench.analysis.comparison import LEAST_BLOCKS
from kvbench.arm import arm_names
from kvbench.commands.result_files import say
from kvbench.errors import KvbenchError
from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun, find_runs, read_blocks
from kvbench.report.charts.series import block_series
from kvbench.report.names import batch_size, device_name, prompt_tokens, run_name
from kvbench.statistics import ratio_interval
from kvbench.text import format_value, printable

MODES = ("nocache", "cached")  # the baseline first
HEAD = ("prompt", "batch", "eager, cached ÷ recompute", "best, cached ÷ recompute", "best recompute", "best cached")
ALIGNMENT = ("--:", "--:", "--:", "--:", "---", "---")
UNKNOWN = "—"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    try:
        found = find_runs(parser.parse_args().paths)
    except KvbenchError as error:
        print(error, file=sys.stderr)
        return 2
    for each in found.unreadable:
        print(f"left out: {each}", file=sys.stderr)
    say(table(found.runs))
    return 0 if found.runs else 2


def table(runs: Sequence[StoredRun]) -> str:
    """Markdown: a table for each model and machine, rows by prompt and batch; one row a run."""
    places = dict.fromkeys(map(_place, runs))
    return "\n".join(
        f"{name} on {device}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in _rows(runs, (name, device)))
        for name, device in places
    )


def _rows(runs: Sequence[StoredRun], place: tuple[str, str]) -> Iterator[tuple[str, ...]]:
    yield HEAD
    yield ALIGNMENT
    mine = [run for run in runs if _place(run) == place]
    for run in sorted(mine, key=_size):
        yield prompt_tokens(run.record), batch_size(run.record), *_cells(run)


def _place(run: StoredRun) -> tuple[str, str]:
    name = (run.record.model or {}).get("name")
    return printable(str(name)) if name else run_name(run.record), device_name(run.record)


def _size(run: StoredRun) -> tuple[int, int]:
    """Of a run that has decoded nothing, what was asked for."""
    workload = run.record.workload
    if workload is not None:
        return max(workload.prompt_tokens, default=0), workload.batch_size
    asked = run.record.config.get("workload") or {}
    return asked.get("prompt_tokens") or 0, asked.get("batch_size") or 0


def _cells(run: StoredRun) -> tuple[str, ...]:
    record = run.record
    if not record.valid:
        return (f"{record.status}", UNKNOWN, UNKNOWN, UNKNOWN)
    eager, best = (_arms(record, eager=True), _arms(record, eager=False))
    names = arm_names(record.arms)
    told = [UNKNOWN if arm is None else f"{names[arm]}, {_step(record, arm)}" for arm in best]
    return _speedup(run, eager), _speedup(run, best), *told


def _arms(record: RunRecord, *, eager: bool) -> list[int | None]:
    """The fastest arm of either mode, of those that are eager or of all; habits are nobody's best."""
    found: list[int | None] = []
    for mode in MODES:
        known = {
            place: arm.decode_tokens_per_s.value
            for place, arm in enumerate(record.arms)
            if arm.mode == mode and arm.habit == "none" and (arm.engine == "eager" or not eager)
        }
        rates = {place: rate for place, rate in known.items() if rate is not None}
        found.append(max(rates, key=lambda place: rates[place], default=None))
    return found


def _step(record: RunRecord, arm: int) -> str:
    return f"{format_value(record.arms[arm].itl_s.value, 's')} a step"


def _speedup(run: StoredRun, arms: Sequence[int | None]) -> str:
    baseline, candidate = arms
    if baseline is None or candidate is None:
        return "the run lacks such arms"
    ratios = block_series(read_blocks(run.folder), [(baseline, candidate)]).ratios[baseline, candidate]
    if len(ratios) < LEAST_BLOCKS:
        return f"{len(ratios)} blocks, an interval needs {LEAST_BLOCKS}"
    found = ratio_interval(ratios)
    return f"{found.value:.2f}× [{found.low:.2f}, {found.high:.2f}]"


if __name__ == "__main__":
    sys.exit(main())
