"""Ten thousand points on 256 pretended devices: who takes which point when, the parent's memory, the report's size.

Time is simulated: a point takes a random time on its device, and longer where its model has to be loaded. Orders,
journals, locks, records and the report are real; the records are copies of one.

usage: python tests/benchmarks/fleet_scale.py [--points 10000] [--devices 256] [--models 40]
"""

from __future__ import annotations

import argparse
import copy
import heapq
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kvbench.commands.launched_sweep import _Launched, make_order
from kvbench.commands.validation import validated_points
from kvbench.config.compose import sources
from kvbench.launching.launchers import KINDS, Kind, Launcher
from kvbench.launching.order import Order, Outcome
from kvbench.launching.queue import Queue
from kvbench.records.store import RECORD, REPORT, read_record
from kvbench.running.leases import FOLDER

COMPOSED = 200  # points; the others are copies of them
LOAD_S, LEAST_S, MOST_S = 90.0, 60.0, 1200.0


class Ended(Launcher):
    """A launcher whose jobs have ended before they are launched."""

    def launch(self, sweep: Path, jobs: Sequence[tuple[int, int]]) -> list[str]:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--models", type=int, default=40)
    arguments = parser.parse_args()
    KINDS["ended"] = Kind("none", "kvbench", is_local=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * arguments.devices)), hard))
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = f"{folder}/leases"
        os.chdir(folder)
        measure(arguments.points, arguments.devices, arguments.models, Path(folder) / "results")


def measure(count: int, devices: int, models: int, results: Path) -> None:
    each = -(-count // models)
    overrides = (
        *("model=scripted", f"model.devices={devices}", "launch=inline", "stream.interval=0", "measure.blocks=5"),
        *(f"model.seed=range({models})", f"workload.prompt_tokens=range(1,{COMPOSED // models + 1})"),
    )
    began_s = time.process_time()
    composed = validated_points(overrides, sources())
    told("composed and checked", f"{len(composed):,} points, {time.process_time() - began_s:.1f} s of a core", memory())
    points = []
    for index in range(models * each):
        one = composed[index % len(composed)]
        names = (*one.overrides[:-1], f"workload.prompt_tokens={1 + index // models}")
        points.append(replace(one, overrides=names, config=copy.deepcopy(one.config)))
    told("points held", f"{len(points):,}", memory())
    launcher = Ended("ended", (), None)
    sweep = results / "sweep-simulated"
    sweep.mkdir(parents=True)
    order = make_order(points, launcher, sources(), results)
    order.write(sweep)
    told("order.json", f"{(sweep / 'order.json').stat().st_size / 2**20:.1f} MiB", memory())
    write = copies(results, sweep)
    lanes = os.fork()  # what all lanes hold together is nobody's memory
    if lanes == 0:
        schedule(sweep, order, write)
        os._exit(0)
    assert os.waitpid(lanes, 0)[1] == 0
    run_parent(points, launcher, sweep, order)


def copies(results: Path, sweep: Path) -> Any:
    """Writes the record of a point as a copy of one that was measured."""
    from kvbench.__main__ import main as command

    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), suppress(SystemExit):
        command(["model=scripted", "launch=inline", "stream.interval=0", "measure.blocks=5", "report=false"])
    (path,) = results.glob("scripted/*/run.json")
    record = read_record(path)
    size = path.stat().st_size

    def write(point: int) -> Path:
        run_id = f"20261128-000000-{point:08x}"
        folder = sweep / "scripted" / run_id
        folder.mkdir(parents=True)
        created = (datetime(2026, 11, 28, tzinfo=UTC) + timedelta(seconds=point)).isoformat()
        copy = record.model_copy(update={"run_id": run_id, "created_at": created})
        (folder / RECORD).write_text(copy.model_dump_json(indent=1))
        return folder

    told("a record", f"{size / 1024:.0f} KiB")
    return write


def schedule(sweep: Path, order: Order, write: Any) -> None:
    dice = random.Random(0)
    takes = [dice.uniform(LEAST_S, MOST_S) for _ in order.points]
    loads, taking_s, longest_s = 0, 0.0, 0.0
    with ExitStack() as alive:
        queues = [alive.enter_context(Queue(sweep, order, 0, lane)) for lane in range(order.lanes)]
        held: list[int | None] = [None] * order.lanes
        at = [(0.0, lane, -1) for lane in range(order.lanes)]
        ends = [0.0] * order.lanes
        while at:
            now, lane, ended = heapq.heappop(at)
            if ended >= 0:
                queues[lane].done(Outcome(ended, str(write(ended)), "ok"))
            began_s = time.perf_counter()
            point = queues[lane].take()
            took_s = time.perf_counter() - began_s
            taking_s, longest_s = taking_s + took_s, max(longest_s, took_s)
            if point is None:
                ends[lane] = now
                continue
            loads_it = order.groups[point] != held[lane]
            loads += loads_it
            held[lane] = order.groups[point]
            heapq.heappush(at, (now + takes[point] + LOAD_S * loads_it, lane, point))
    ideal = sum(takes) / order.lanes
    told("lanes", f"{order.lanes}, models {len(set(order.groups))}, loads {loads}")
    told("all devices busy until", f"{min(ends) / 3600:.2f} h, the last until {max(ends) / 3600:.2f} h")
    told("without loads and gaps", f"{ideal / 3600:.2f} h: {100 * ideal / max(ends):.1f} % of what it takes")
    told("taking a point", f"{taking_s / len(takes) * 1e3:.1f} ms on average, {longest_s * 1e3:.0f} ms at most")
    told("journal", f"{sum(path.stat().st_size for path in sweep.glob('part-*')) / 2**20:.1f} MiB", memory())


def run_parent(points: Any, launcher: Launcher, sweep: Path, order: Order) -> None:
    began_s = time.perf_counter()
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        code = _Launched(points, launcher, sweep, order, "auto").run()
    told("parent: read, told and reported", f"{time.perf_counter() - began_s:.0f} s, exit code {code}", memory())
    told("report.html", f"{(sweep / REPORT).stat().st_size / 2**20:.1f} MiB")


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most so far"


def told(*cells: str) -> None:
    print(" | ".join(cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
