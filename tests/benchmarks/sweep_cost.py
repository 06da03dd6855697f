"""What a sweep costs besides its measurements: own time per scripted run, memory over the sweep, the parent's CPU.

    python tests/benchmarks/sweep_cost.py scripted --runs 2000
    python tests/benchmarks/sweep_cost.py embedded --points 20

`scripted` spends virtual time, so every second of it is ours: the script's own loop included, start-up and composition
told apart. `embedded` sweeps the prompt's length over one model and holds the wall time against what was measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil

from kvbench.records.store import RECORD, StoredRun, find_runs

LOOK_EVERY_S = 0.5
MEBIBYTE = 1 << 20
MEASURED = ("first visit", "memory and proof", "agreement", "warm-up", "first visits explained", "blocks", "energy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scripted", "embedded"])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "scripted":
            scripted(Path(folder), options.runs, options.overrides)
        else:
            embedded(Path(folder), options.points, options.overrides)


def scripted(folder: Path, runs: int, overrides: list[str]) -> None:
    began_s = time.time()
    memory, _ = swept(folder, ["model=scripted", f"model.seed=range(0,{runs})", "report=false", *overrides])
    first, last = ends(folder)
    print(f"start and composition: {first - began_s:.1f} s")
    print(f"own time: {(last - first) / runs * 1e3:.1f} ms a run over {runs} runs")
    for name, series in memory.items():
        tenth = max(1, len(series) // 10)
        print(
            f"{name}: {series[tenth] / MEBIBYTE:.0f} MiB after a tenth of the sweep, {series[-1] / MEBIBYTE:.0f} at its"
            f" end, {max(series) / MEBIBYTE:.0f} at most"
        )


def embedded(folder: Path, points: int, overrides: list[str]) -> None:
    lengths = ",".join(str(64 + 16 * number) for number in range(points))
    began_s = time.monotonic()
    _, cpu_s = swept(folder, [f"workload.prompt_tokens={lengths}", "resume=false", *overrides])
    wall_s = time.monotonic() - began_s
    runs = find_runs([folder]).runs
    workers = {run.record.environment["worker"]["pid"] for run in runs}
    narrow, wide = seconds(runs, ("warm-up", "blocks")), seconds(runs, MEASURED)
    print(f"{len(runs)} points, {len(workers)} worker, wall {wall_s:.1f} s")
    print(f"blocks and warm-up {narrow:.1f} s: wall is {wall_s / narrow:.3f} times that")
    print(f"all that is measured {wide:.1f} s: wall is {wall_s / wide:.3f} times that")
    print(f"the parent used {cpu_s / wall_s:.1%} of a core over the whole sweep")


def swept(folder: Path, overrides: list[str]) -> tuple[dict[str, list[int]], float]:
    """Run the sweep: resident memory of parent and worker over time, and the parent's CPU seconds."""
    arguments = [sys.executable, "-m", "kvbench", "-m", *overrides]
    process = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)
    memory: dict[str, list[int]] = {"parent": [], "worker": []}
    cpu_s = 0.0
    while process.poll() is None:
        try:
            times = parent.cpu_times()
            cpu_s = times.user + times.system
            workers = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
            if workers:
                memory["parent"].append(parent.memory_info().rss)
                memory["worker"].append(workers[0].memory_info().rss)
        except psutil.Error:
            break
        time.sleep(LOOK_EVERY_S)
    if process.wait() != 0:
        raise SystemExit("the sweep failed")
    return memory, cpu_s


def ends(folder: Path) -> tuple[float, float]:
    """When the first run began, and when the last record was written."""
    records = list(folder.rglob(RECORD))
    first = min(found.record.created_at for found in find_runs([folder]).runs)
    return datetime.fromisoformat(first).timestamp(), max(path.stat().st_mtime for path in records)


def seconds(runs: tuple[StoredRun, ...], phases: tuple[str, ...]) -> float:
    return sum(phase.seconds for run in runs for phase in run.record.phases if phase.name in phases)


if __name__ == "__main__":
    main()
