"""Whether a long sweep stays as small as it began: memory, descriptors, processes, temporary files, inductor's folders.

python tests/benchmarks/soak.py [--scripted 500] [--embedded 50]

A sweep of scripted points and one of the embedded model, each in one process with its worker, looked at from outside
while they go on. Takes about six minutes on two idle cores. The exit code is 1 when a sweep failed, when descriptors
grew or files were left, or when memory grew by more than a tenth between the first fifth of the points and the last.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil

EVERY_S = 0.25
ROWS = 6  # of the table, spread over a sweep
GREW = 1.1  # times as much memory at the end
COMMON = ("report=false", "workload.new_tokens=8", "measure.blocks=6")
SCRIPTED = (*COMMON, "model=scripted", "measure.warmup=0")
EMBEDDED = (*COMMON, "model=embedded", "threads=1")
INDUCTOR = ("torchinductor", "inductor")
HEAD = ("points", "parent MiB", "worker MiB", "parent fds", "worker fds", "processes", "temporary files", "inductor")


@dataclass(frozen=True)
class Reading:
    """Of a sweep and its worker, at one moment."""

    points: int
    parent_mib: float
    worker_mib: float
    parent_fds: int
    worker_fds: int
    processes: int
    temporary: int  # files in the sweep's own TMPDIR, and half-written ones below its results
    inductor: int  # folders of torch.compile's


def reading(process: psutil.Process, folder: Path) -> Reading | None:
    """A reading now; None when a process has just gone."""
    results, temporary = folder / "results", folder / "tmp"
    try:
        children = process.children(recursive=True)
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if not workers:
            return None
        left = [path for path in temporary.rglob("*") if path.is_file()]
        half_written = list(results.rglob(".*.tmp"))
        return Reading(
            points=sum(1 for _ in results.rglob("run.json")),
            parent_mib=process.memory_info().rss / 2**20,
            worker_mib=workers[0].memory_info().rss / 2**20,
            parent_fds=process.num_fds(),
            worker_fds=workers[0].num_fds(),
            processes=1 + len(children),
            temporary=len(left) + len(half_written),
            inductor=sum(path.is_dir() and any(each in path.name for each in INDUCTOR) for path in temporary.iterdir()),
        )
    except (psutil.Error, FileNotFoundError):
        return None


def sweep(name: str, arguments: Sequence[str], points: int, folder: Path) -> bool:
    """Run so many points, print the table, and say whether everything stayed flat."""
    (folder / "tmp").mkdir(parents=True)
    env = {**os.environ, "TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "kvbench", "-m", *arguments, f"workload.prompt_tokens=range(8,{8 + points})"]
    began_s = time.monotonic()
    readings: list[Reading] = []
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL) as process:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            now = reading(seen, folder)
            if now is not None and now.points >= 1:
                readings.append(now)
            time.sleep(EVERY_S)
    took_s = time.monotonic() - began_s
    records = list((folder / "results").rglob("run.json"))
    ok = sum('"status": "ok"' in record.read_text() for record in records)
    left = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    left += list((folder / "results").rglob(".*.tmp"))
    print(f"\n{name}: {len(records)} points, {ok} ok, exit code {process.returncode}, {took_s:.0f} s")
    print(" ".join(f"{title:>{len(title)}}" for title in HEAD))
    for number in range(ROWS):
        row = astuple(readings[number * (len(readings) - 1) // (ROWS - 1)])
        print(
            " ".join(
                f"{value:{len(title)}.{1 if isinstance(value, float) else 0}f}"
                for value, title in zip(row, HEAD, strict=True)
            )
        )
    print(
        f"left in TMPDIR and results: {len(left)} files; in the cache: {sum(1 for _ in (folder / 'cache').rglob('*'))}"
    )
    return is_flat(readings, points) and ok == points and not left


def is_flat(readings: Sequence[Reading], points: int) -> bool:
    """Whether the last fifth of a sweep takes no more than the first, but its very beginning."""
    first = [each for each in readings if 0.02 * points <= each.points <= 0.2 * points] or readings[:1]
    last = [each for each in readings if each.points >= 0.8 * points] or readings[-1:]
    flat = True
    for what, slack in (("parent_mib", GREW), ("worker_mib", GREW), ("parent_fds", 1.0), ("worker_fds", 1.0)):
        before, after = (max(getattr(each, what) for each in some) for some in (first, last))
        if after > slack * before:
            print(f"{what} grew from {before:.1f} to {after:.1f}")
            flat = False
    return flat


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripted", type=int, default=500, help="points")
    parser.add_argument("--embedded", type=int, default=50, help="points")
    options = parser.parse_args()
    flat = True
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for name, arguments, points in (
            ("scripted", SCRIPTED, options.scripted),
            ("embedded", EMBEDDED, options.embedded),
        ):
            if points:
                flat &= sweep(name, arguments, points, Path(folder, name))
    print("flat" if flat else "NOT flat")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
