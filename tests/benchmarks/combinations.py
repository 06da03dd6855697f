"""The table of all combinations: each mode, cache, engine and attention on this machine, its verdict or its refusal.

    python tests/benchmarks/combinations.py [--only WORDS] [KEY=VALUE ...]

Each combination is an arm beside eager recompute of the same model in one process; the keys are kvbench's own, such as
`model=gemma2b model.weights=random`. What the capability table refuses is counted by its reason and not run. The times
are of a few steps, to show that an arm runs, not to compare it. `--only` keeps the arms that have one of the words, in
a list with commas: `--only static,compiled`.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

from kvbench.analysis.assemble import assemble
from kvbench.arm import arm_conflict, device_conflict
from kvbench.capabilities import ATTENTIONS, CACHES, EAGER, ENGINES, MODES, NO_CACHE
from kvbench.config.compose import load_config, sources
from kvbench.errors import KvbenchError
from kvbench.plan import make_plan
from kvbench.readiness import require_packages
from kvbench.records.run_record import RunRecord
from kvbench.records.samples import RunSamples
from kvbench.running.faults import fault_of
from kvbench.running.job import run_job
from kvbench.running.worker import open_backend

MODES_TRIED = ("nocache", "cached", "generate", "generate_nocache")
QUICK = (
    "launch=inline",
    "report=false",
    "stream.interval=0",
    "workload.prompt_tokens=100",
    "workload.new_tokens=8",
    "measure.blocks=1",
    "measure.energy_s=0",
    "measure.step_lane=false",
)
BASELINE = "{mode: nocache}"
HEAD = ("mode", "cache", "engine", "attention", "agreement", "difference", "ITL", "prepared in")
UNKNOWN = "—"


def main() -> None:
    options, keys = _options()
    backend: Any = open_backend(make_plan(load_config([*QUICK, *keys, f"arms=[{BASELINE}]"], sources())))
    device_type = backend.device.type
    refused: Counter[str] = Counter()
    print(_row(HEAD), _row(["---"] * len(HEAD)), sep="\n", flush=True)
    for mode, cache, engine, attention in _combinations():
        if options.only and not {mode, cache, engine, attention} & set(options.only.split(",")):
            continue
        written = f"{{mode: {mode}, cache: {cache}, engine: {engine}, attention: {attention}}}"
        try:
            record = _measured(backend, [*QUICK, *keys, f"arms=[{BASELINE},{written}]"])
        except Exception as error:  # whatever it is, it is this combination's line
            if not isinstance(error, KvbenchError):
                print(_row([mode, cache, engine, attention, f"FAILED: {fault_of(error).message}"[:160]]), flush=True)
                continue
            refused[str(error).removeprefix("arms[1]: ")] += 1
            continue
        print(_row([mode, cache, engine, attention, *_cells(record)]), flush=True)
    print(f"\nrefused on {device_type}, by reason:")
    for reason, count in refused.most_common():
        print(f"  {count:4d}  {reason}")


def _options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS")
    return parser.parse_known_args()


def _combinations() -> Iterator[tuple[str, str, str, str]]:
    for mode in MODES_TRIED:
        caches = [name for name in CACHES if name != NO_CACHE] if MODES[mode].keeps_past else [NO_CACHE]
        yield from itertools.product([mode], caches, sorted(ENGINES, key=lambda name: name != EAGER), ATTENTIONS)


def _measured(backend: Any, keys: list[str]) -> RunRecord:
    """One run in this process. Raises `KvbenchError` for what is refused."""
    config = load_config(keys, sources())
    require_packages(config)
    plan = make_plan(config)
    for arm in plan.arms:  # `device=auto` leaves the device's own rules to the one that was found
        conflict = arm_conflict(arm) or device_conflict(arm, backend.device.type)
        if conflict:
            raise KvbenchError(conflict)
    samples = RunSamples()
    run_job(backend.session(plan), samples.add)
    return assemble(plan, samples, run_id="in-process", created_at="")


def _cells(record: RunRecord) -> list[str]:
    agreement, arm = record.comparisons[0].agreement, record.arms[1]
    verdict = agreement.verdict or agreement.differs_by or UNKNOWN
    difference, itl_s, prepared_s = agreement.max_rel_logit_diff, _itl_s(record), arm.cold.compile_s
    return [
        verdict,
        UNKNOWN if difference is None else f"{difference:.1e}",
        UNKNOWN if itl_s is None else f"{itl_s * 1e3:.2f} ms",
        UNKNOWN if prepared_s is None else f"{prepared_s:.1f} s",
    ]


def _itl_s(record: RunRecord) -> float | None:
    return record.arms[1].cold.itl_s if record.arms[1].itl_s.value is None else record.arms[1].itl_s.value


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
