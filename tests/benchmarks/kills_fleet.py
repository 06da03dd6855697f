"""Kills at random moments: of the sweep's own process, of a job, of a worker. Then what is left is counted.

Of a launched sweep it kills one process in each round and runs the same command again until every point has its
record. Of leases it kills holders and those that wait, and looks whether two ever had one device at a time.

usage: python tests/benchmarks/kills_fleet.py [--launchers joblib submitit_local] [--sweeps 5] [--holders 200]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from kvbench.records.store import find_runs

POINTS = 8
SWEEP = (
    *("-m", "model=scripted", "model.devices=2", "model.virtual_time=false", "stream.interval=0", "report=false"),
    *("workload.prompt_tokens=5", "workload.new_tokens=16", "measure.warmup=0", "measure.blocks=12"),
    f"model.prefill_s={','.join(f'0.01{number}' for number in range(POINTS))}",
)
SETTINGS = {"joblib": ("hydra.launcher.n_jobs=2",), "submitit_local": ("jobs=2",)}
HOLDER = """
import os, random, sys, time
from kvbench.running.leases import Place, leased
dice = random.Random(int(sys.argv[1]))
folder = sys.argv[2]
for turn in range(1000000):
    device = dice.randrange(3)
    whole = dice.random() < 0.1
    with leased(Place(f"d{device}", (f"d{device}",)), f"holder-{sys.argv[1]}", lambda told: None, whole_host=whole):
        for each in range(3) if whole else (device,):
            busy = f"{folder}/busy-{each}"
            if os.path.exists(busy):
                other = open(busy).read()
                if other and os.path.exists(f"/proc/{other}"):
                    open(f"{folder}/violations", "a").write(f"{other} and {os.getpid()} on {each}\\n")
            open(busy, "w").write(str(os.getpid()))
        time.sleep(dice.random() * 0.02)
        for each in range(3) if whole else (device,):
            os.unlink(f"{folder}/busy-{each}")
    with open(f"{folder}/turns", "a") as file:
        file.write("host\\n" if whole else "device\\n")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launchers", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--sweeps", type=int, default=5)
    parser.add_argument("--holders", type=int, default=200, help="kills of processes that hold or want leases")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    wrong = leases(arguments.holders, dice) if arguments.holders else 0
    for launcher in arguments.launchers:
        wrong += sweeps(launcher, arguments.sweeps, dice)
    return 1 if wrong else 0


def leases(kills: int, dice: random.Random) -> int:
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "KVBENCH_LEASES": f"{folder}/leases"}

        def start(number: int) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", HOLDER, str(number), folder], env=environ)

        running = [start(number) for number in range(6)]
        time.sleep(3)
        for kill in range(kills):
            time.sleep(dice.random() * 0.1)
            victim = dice.randrange(len(running))
            running[victim].kill()
            running[victim].wait()
            running[victim] = start(100 + kill)
        turns_before = len((Path(folder) / "turns").read_text().splitlines())
        time.sleep(10)
        turns = Counter((Path(folder) / "turns").read_text().splitlines())
        for each in running:
            each.kill()
            each.wait()
        violations = Path(folder) / "violations"
        found = violations.read_text().splitlines() if violations.exists() else []
        went_on = sum(turns.values()) - turns_before
        print(
            f"leases: {kills} kills, {turns['device']} turns on a device, {turns['host']} on the whole host", flush=True
        )
        print(f"leases: {len(found)} overlaps; {went_on} turns in the 10 s after the last kill", flush=True)
        return len(found) + (went_on == 0)


def sweeps(launcher: str, count: int, dice: random.Random) -> int:
    killed: Counter[str] = Counter()
    tally: Counter[str] = Counter()
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            environ = {**os.environ, "KVBENCH_LEASES": f"{folder}/leases", "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "kvbench", *SWEEP, f"hydra/launcher={launcher}", *SETTINGS[launcher]]
            for attempt in range(12):
                sweep = subprocess.Popen(
                    command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                if attempt < 3:
                    kind = dice.choice(("launcher", "job", "worker"))
                    killed[kill_one(sweep, Path(folder), kind, dice)] += 1
                out = sweep.communicate()[0].decode()
                gone(Path(folder))
                if sweep.returncode == 0:
                    break
                tally["sweeps that ended with another code than 0, and were run again"] += 1
            found = find_runs([Path(folder) / "results"])
            finished = [run.record.config["model"]["prefill_s"] for run in found.runs if run.record.status == "ok"]
            tally["records"] += len(found.runs)
            tally["of them crashed"] += sum(run.record.status == "crashed" for run in found.runs)
            tally["folders without a record (killed in them)"] += len(found.unfinished)
            tally["records that cannot be read"] += len(found.unreadable)
            tally["points measured twice"] += len(finished) - len(set(finished))
            tally["points without a finished record in the end"] += POINTS - len(set(finished))
            if sweep.returncode != 0:
                tally["sweeps that never came to their end"] += 1
                print(out[-2000:])
    print(f"{launcher}: {count} sweeps of {POINTS} points on 2 devices; killed: {dict(killed)}", flush=True)
    for name, number in tally.items():
        print(f"{launcher}: {number:4} {name}", flush=True)
    return tally["records that cannot be read"] + tally["points without a finished record in the end"]


def kill_one(sweep: subprocess.Popen[bytes], folder: Path, kind: str, dice: random.Random) -> str:
    """Wait until jobs are at it, and a random while; kill one process of a kind."""
    while sweep.poll() is None and not jobs(folder):
        time.sleep(0.05)
    time.sleep(dice.random() * 8)
    victims: list[int] = []
    while sweep.poll() is None and not victims:
        victims = [sweep.pid] if kind == "launcher" else [pid for pid in jobs(folder) if alive(pid)]
        if kind == "worker":
            victims = [child.pid for job in victims for child in children(job)]
    if not victims:
        return "none: the sweep had ended"
    try:
        os.kill(dice.choice(victims), signal.SIGKILL)
    except ProcessLookupError:
        return f"none: the {kind} had ended"
    return kind


def jobs(folder: Path) -> list[int]:
    """The processes that have points, by the journals of the newest sweep."""
    journals = sorted(folder.glob("results/sweep-*/part-*.jsonl"))
    lines = journals[-1].read_text().splitlines() if journals else []
    return sorted({json.loads(line)["pid"] for line in lines if '"Claim"' in line})


def children(job: int) -> list[psutil.Process]:
    try:
        every = psutil.Process(job).children(recursive=True)
        return [each for each in every if "spawn_main" in " ".join(each.cmdline())]
    except psutil.Error:
        return []


def gone(folder: Path) -> None:
    """Wait until the jobs that outlive their launcher have ended."""
    deadline = time.monotonic() + 120
    while any(map(alive, jobs(folder))) and time.monotonic() < deadline:
        time.sleep(0.2)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


if __name__ == "__main__":
    sys.exit(main())
