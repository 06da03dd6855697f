"""Whether a sweep's points depend on their order: A, B, A in one sweep, and how the second A compares with the first.

    python tests/benchmarks/order.py [--fresh] [--keep FOLDER] [KEY=VALUE ...]

The keys are added to those of every point. The points are prompts of 128, 256 and 128 tokens, decoded by Gemma-2B's
shape with random weights unless the keys say otherwise: eager in both modes, and cached as a CUDA graph and compiled.
`--fresh` measures A a third time, in a process of its own right after the sweep: a host that drifts moves both of them,
what a worker kept moves one. A ratio above 1 is a later A that became slower; its interval is the widest that the
two runs' own intervals allow. Small launches timed just before the blocks are compared too: they are steadier than
eager steps, whose intervals are often too wide to tell. Exits with 1 when an interval lies wholly above 1.10, when
launches of the later A take 1.3 times as long as in every other A, or when the worker says that it kept something.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kvbench.records.run_record import ArmRecord, RunRecord
from kvbench.records.store import find_runs

LENGTHS = (128, 256, 128)
BAND = 1.10  # a kept profiler took 1.2 to 1.6 times as long
LAUNCH_BAND = 1.3  # with a kept profiler a small launch took twice as long (one NVIDIA H200)
ARMS = (
    "arms=[{mode: nocache},{mode: cached},{mode: cached, cache: static, engine: graph},"
    "{mode: cached, cache: static, engine: compiled}]"
)
COMMON = (
    *("workload.new_tokens=16", "measure.step_lane=false", "measure.energy_s=0", "check.agreement=none"),
    *("stream.interval=0", "report=false", "resume=false"),
)
GEMMA = ("model=gemma2b", "model.weights=random", ARMS)


@dataclass(frozen=True)
class Repeated:
    """One arm of A, at first and later."""

    arm: str
    first: ArmRecord
    later: ArmRecord

    @property
    def ratio(self) -> float:
        """The later ITL over the first."""
        return (self.later.itl_s.value or 0.0) / (self.first.itl_s.value or 1.0)

    @property
    def interval(self) -> tuple[float, float]:
        """The widest that the two intervals allow; they need 6 blocks."""
        first, later = self.first.itl_s, self.later.itl_s
        bounds = (first.ci_low, first.ci_high, later.ci_low, later.ci_high)
        assert all(bounds), f"{self.arm}: no interval"
        return (later.ci_low or 0.0) / (first.ci_high or 1.0), (later.ci_high or 0.0) / (first.ci_low or 1.0)

    @property
    def is_slower(self) -> bool:
        """Whether the later one is slower for certain, by more than hosts drift in a minute."""
        return self.interval[0] > BAND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        runs = swept(place / "sweep", options.overrides)
        found = repeated(runs[0], runs[2])
        others = [runs[0]]
        print(table("third point over first", runs[0], runs[2], found), flush=True)
        if options.fresh:
            (fresh,) = swept(place / "fresh", options.overrides, LENGTHS[:1])
            alone = repeated(fresh, runs[2])
            print(table("third point over a fresh process", fresh, runs[2], alone))
            found += alone
            others.append(fresh)
        launches = [launch_ratio(other, runs[2]) for other in others]
        print(
            f"launches before the blocks, third point over the others: {', '.join(f'{each:.2f}x' for each in launches)}"
        )
    kept = [warning.detail for run in runs for warning in run.warnings if warning.code == "worker_state"]
    print(*kept, sep="\n", end="\n" if kept else "")
    hooked = min(launches) > LAUNCH_BAND  # over one alone: the host was faster then
    raise SystemExit(int(bool(kept) or hooked or any(each.is_slower for each in found)))


def swept(folder: Path, overrides: list[str], lengths: tuple[int, ...] = LENGTHS) -> list[RunRecord]:
    """Measure the lengths one after another in one worker; the records in that order."""
    model = () if any(each.startswith("model=") for each in overrides) else GEMMA
    points = f"workload.prompt_tokens={','.join(map(str, lengths))}"
    keys = [*model, *COMMON, points, f"results_dir={folder}", *overrides]
    ended = subprocess.run([sys.executable, "-m", "kvbench", "-m", *keys], check=False, stdout=subprocess.DEVNULL)
    assert ended.returncode in (0, 3), f"the sweep ended with {ended.returncode}"  # 3: measured, whatever it is worth
    runs = sorted((run.record for run in find_runs([folder]).runs), key=lambda run: run.created_at)
    assert list(lengths) == [length for run in runs if run.workload for length in run.workload.prompt_tokens]
    return runs


def repeated(first: RunRecord, later: RunRecord) -> list[Repeated]:
    """Every arm of the one run with its counterpart."""
    return [Repeated(before.label, before, after) for before, after in zip(first.arms, later.arms, strict=True)]


def launch_ratio(first: RunRecord, later: RunRecord) -> float:
    """How much longer a small launch took before the later run's blocks."""
    checks = [run.host_checks and run.host_checks.before for run in (first, later)]
    before, after = (check.launch_s or 0.0 if check else 0.0 for check in checks)
    assert before > 0, "no host check"
    return after / before


def table(title: str, first: RunRecord, later: RunRecord, found: list[Repeated]) -> str:
    """The figures side by side."""
    lines = [f"{title} ({first.environment.get('device_name')}, torch {first.environment.get('torch')})"]
    for each in found:
        low, high = each.interval
        times = f"{milliseconds(each.first)} -> {milliseconds(each.later)}"
        mark = " SLOWER" if each.is_slower else ""
        lines.append(f"  {each.arm:32} ITL {times}  {each.ratio:.3f}x [{low:.3f}, {high:.3f}]{mark}")
    for name, run in (("first", first), ("later", later)):
        checks, worker = run.host_checks, run.environment["worker"]
        launches = [
            f"{check.launch_s * 1e6:.2f}" for check in (checks and checks.before, checks and checks.after) if check
        ]
        told = f"worker {worker['pid']} after {worker['earlier_runs']} runs, launches {' and '.join(launches)} µs"
        lines.append(f"  {name}: {told}; {', '.join(warning.code for warning in run.warnings) or 'no warnings'}")
    return "\n".join(lines)


def milliseconds(arm: ArmRecord) -> str:
    return f"{(arm.itl_s.value or 0.0) * 1e3:.2f} ms"


if __name__ == "__main__":
    main()
