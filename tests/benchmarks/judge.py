"""The judge put to the test: faults of caches that must be caught, and sound runs that must not be accused.

    python tests/benchmarks/judge.py faults [--jobs 2] [--seed 0] [--places some|all|NAME,...] [--only WORDS]
    python tests/benchmarks/judge.py sound  [--jobs 2] [--seed 0] [--sound 200] [--ratios]

`faults` injects each fault of `judge_faults.py` into a cached arm beside sound recompute, in float32 and bfloat16 and
at the places that a run has, and has kvbench judge it with its default check; what that does not catch is judged again
with check.agreement=full. How large a fault is, is computed beside it from bare passes: the change of the faulty arm's
logits on recompute's path (RMS over the vocabulary), at the worst step of the worst row, over what the sound arm itself
rounds there, against the same model in a wider type. From 3 times on a fault should be caught. By default each kind
acts everywhere on each of its models and at `--further` other places on one; `--places all` tries all places.

`sound` runs arms that are right, of many architectures, types, workloads, caches and attentions: whoever is told to
differ is a false alarm, and is printed. `--ratios` also prints how far apart the rounding of recompute and of the arm
with a cache are.

Every slice of cases is run in a process of its own. `--rows FILE` keeps all of it as JSON lines, as it comes; `--again`
prints the tables of such a file and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from judge_faults import FAULTS, PLACES, Fault, faults_of

LARGE = 3.0  # times the sound arm's rounding: from there on a fault should be caught
ARMS = 8  # candidates of one run
TYPES = ("float32", "bfloat16")
IN_PREFILL = ("everywhere", "first batch", "later batch", "padded rows")
WITHOUT_ROWS = ("model", "window")  # hooks that change all rows at once
EXTRA = {"mistral": ("window's edge",), "gemma3_text": ("window's edge",), "llama": ("bucket's edge", "chunk's edge")}
WINDOWED = ("mistral", "gemma2", "gemma3_text")
UNPADDED = ("own",)  # models that are handed no mask

Row = dict[str, Any]


def main() -> int:
    options = _options()
    started = time.perf_counter()
    if options.again:
        kept_rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines()]
        print(*(fault_tables(kept_rows) if options.what == "faults" else sound_tables(kept_rows)), sep="\n")
        return 0
    tasks: list[tuple[Callable[..., list[Row]], tuple[Any, ...]]]
    if options.what == "faults":
        tasks = [
            (fault_rows, each) for each in fault_tasks(options.places, options.further, options.only, options.seed)
        ]
    else:
        tasks = [
            (sound_rows, (number, options.seed, options.ratios, options.checks)) for number in range(options.sound)
        ]
        if options.only:
            tasks = [task for task in tasks if options.only in sound_case(task[1][0], options.seed)["kind"]]
    random.Random(options.seed).shuffle(tasks)  # so that a part of them stands for all
    rows = []
    with options.rows.open("w", encoding="utf-8") if options.rows else nullcontext() as kept:
        for row in _done(tasks, options.jobs):
            rows.append(row)
            if kept is not None:
                kept.write(json.dumps(row) + "\n")
                kept.flush()
    print(*(fault_tables(rows) if options.what == "faults" else sound_tables(rows)), sep="\n")
    print(f"\n{time.perf_counter() - started:.0f} s with {options.jobs} jobs")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("faults", "sound"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", default="some", help="some, all, or names with commas")
    parser.add_argument("--further", type=int, default=2, help="--places some: how many besides everywhere")
    parser.add_argument("--only", default="", help="faults whose names, or models that, have this in them")
    parser.add_argument("--sound", type=int, default=200, metavar="RUNS")
    parser.add_argument("--ratios", action="store_true")
    parser.add_argument("--checks", default="few,full", help="of sound runs: few, full, or both with a comma")
    parser.add_argument("--rows", type=Path, metavar="FILE")
    parser.add_argument("--again", action="store_true", help="the tables of --rows, without running anything")
    return parser.parse_args()


def _done(tasks: Sequence[tuple[Callable[..., list[Row]], tuple[Any, ...]]], jobs: int) -> Iterator[Row]:
    """The rows of all tasks, as they come."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_ready) as pool:
        futures = {pool.submit(act, *arguments): arguments for act, arguments in tasks}
        for number, future in enumerate(as_completed(futures), start=1):
            try:
                yield from future.result()
            except Exception as error:  # one case must not end the others
                yield {"broken": f"{futures[future]}: {type(error).__name__}: {error}"[:400]}
            print(f"\r{number} of {len(tasks)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _ready() -> None:
    import gc
    import logging
    import warnings

    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    import judge_runs  # noqa: F401 - everything is loaded before garbage is frozen
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity(logging.CRITICAL)
    gc.collect()
    gc.freeze()


# Faults.


def fault_tasks(
    places: str, further: int, only: str, seed: int
) -> list[tuple[str, str, str, list[tuple[str, str]], int]]:
    """(model, type, workload, [(fault, place)], seed) of each run."""
    runs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for kind in dict.fromkeys(model for each in FAULTS for model in (*each.on, "embedded")):
        for fault in faults_of(kind):
            if only in fault.name or only in kind:
                for place in _places(fault, kind, places, further):
                    workload = PLACES[place].workload
                    runs[kind, fault.workload if workload in ("plain", "window") else workload].append(
                        (fault.name, place)
                    )
    return [
        (kind, dtype, workload, cases[first : first + ARMS], seed)
        for (kind, workload), cases in runs.items()
        for dtype in TYPES
        for first in range(0, len(cases), ARMS)
    ]


def _places(fault: Fault, kind: str, wanted: str, further: int) -> list[str]:
    """Where a fault can act in a model's runs, of the places that are wanted."""
    can = [place.name for place in PLACES.values() if place.workload in ("plain", "long")] + list(EXTRA.get(kind, ()))
    if fault.passes == "prefill":
        can = [name for name in can if name in IN_PREFILL]
    if fault.hook in WITHOUT_ROWS or kind.startswith(UNPADDED):
        can.remove("padded rows")
    if fault.workload != "plain":
        can = [name for name in can if PLACES[name].workload == "plain"]
    if kind in WINDOWED:
        can.remove("multiples of 64")
    if fault.hook == "window" or fault.hook not in ("shown", "inputs", "kept", "model"):
        can = [name for name in can if name != "chunk's edge"]
    if wanted == "all":
        return can
    if wanted != "some":
        return [name for name in wanted.split(",") if name in can]
    number = [each.name for each in FAULTS].index(fault.name)
    others = can[1:] if kind == fault.on[0] else []
    picked = [others[(number * further + step) % len(others)] for step in range(further) if others]
    return ["everywhere", *dict.fromkeys(picked)]


def fault_rows(kind: str, dtype: str, workload: str, cases: Sequence[tuple[str, str]], seed: int) -> list[Row]:
    """One run: what became of each fault."""
    from judge_models import Shape
    from judge_runs import Run, Truth, model_of, paths_of, without_collecting
    from judge_runs import workload as work_of

    shape = Shape(kind, seed)
    model, work = model_of(shape, dtype), work_of(workload, own=shape.is_own, windowed=kind in WINDOWED)
    by_name = {each.name: each for each in faults_of(kind)}
    layers = 2 if kind != "embedded" else 4

    def injections() -> list[Any]:
        return [injection_of(by_name[name], place, layers) for name, place in cases]

    with without_collecting():
        run = Run(model, work, injections())
        told = {"few": _all_told(run.judged("few"))}
        # What is caught by default is caught; the other check is asked about the rest.
        told["full"] = _all_told(
            run.judged("full", [each for each, said in told["few"].items() if not is_caught(said)])
        )
        truth = Truth(model, shape, dtype, work, paths_of(run))
        sizes = [truth.size(each) for each in injections()]
    rows = []
    for number, ((name, place), size) in enumerate(zip(cases, sizes, strict=True)):
        row: Row = {"fault": name, "place": place, "model": kind, "dtype": dtype, "workload": workload}
        row |= {"size": size.worst, "at": size.place, "acted": size.acted, "passes_s": run.passes_s / (len(cases) + 1)}
        row |= {check: found[number] for check, found in told.items() if number in found}
        rows.append(row)
    return rows


def injection_of(fault: Fault, place: str, layers: int) -> Any:
    """A new one, which has seen nothing."""
    from judge_faults import Injection

    return Injection(fault, PLACES[place], layers)


def _all_told(judged: Mapping[int, Any]) -> dict[int, Row]:
    return {each: _told(found) | {"seconds": found.seconds / len(judged)} for each, found in judged.items()}


def _told(judged: Any) -> Row:
    agreement = judged.agreement
    told = {
        "verdict": agreement.verdict,
        "detail": agreement.detail,
        "steps": agreement.steps,
        "rel": agreement.max_rel_logit_diff,
        "noise": agreement.noise_rel,
        "allowed": agreement.allowed_rel,
    }
    # What a later judge adds to it, whatever it is.
    for name in ("cause", "excess", "judged_by", "error_ratio"):
        if hasattr(agreement, name):
            told[name] = str(getattr(agreement, name))
    return told


def is_caught(told: Mapping[str, Any]) -> bool:
    """Whether the reader is told: of another output, or that none could be compared."""
    return told["verdict"] == "MISMATCH" or (told["verdict"] is None and told["detail"].startswith("not judged"))


def outcome(row: Row) -> str:
    """Caught by default, by full alone, or by neither and why."""
    if is_caught(row["few"]):
        return "default"
    if is_caught(row["full"]):
        return "full"
    if not row["acted"] or row["size"] == 0:
        return "nothing changed"
    return "small" if row["size"] < LARGE else "missed"


def fault_tables(rows: Iterable[Row]) -> Iterator[str]:
    """Markdown: by kind, by place, what was missed, and what the check takes."""
    rows = list(rows)
    yield from (f"BROKEN {row['broken']}" for row in rows if "broken" in row)
    rows = [row for row in rows if "broken" not in row]
    yield from _counted("kind of fault", rows, lambda row: row["fault"])
    yield from _counted("place", rows, lambda row: row["place"])
    yield from _counted("model", rows, lambda row: row["model"])
    yield "\n## Missed, and not small\n"
    for row in sorted(rows, key=lambda row: -row["size"]):
        if outcome(row) == "missed":
            batch, step, line = row["at"]
            yield (
                f"- {row['dtype']} {row['model']}, {row['fault']}, {row['place']}: {row['size']:.3g} × rounding at step"
                f" {step} of batch {batch}, row {line}; {row['full']['verdict']}: {row['full']['detail']}"
            )
    yield "\n## Caught though small\n"
    small = [row for row in rows if row["size"] < LARGE and outcome(row) in ("default", "full")]
    yield from (f"- {row['dtype']} {row['model']}, {row['fault']}, {row['place']}: {row['size']:.3g}" for row in small)
    yield "\n## What the check takes\n"
    for check in ("few", "full"):
        asked = [row for row in rows if check in row]
        took, passes = sum(row[check]["seconds"] for row in asked), sum(row["passes_s"] for row in asked)
        if passes:
            share = took / passes
            yield f"{check}: {took:.0f} s for {len(asked)} candidates, {share:.2f} of their untimed passes"


def _counted(title: str, rows: Sequence[Row], key: Callable[[Row], str]) -> Iterator[str]:
    head = ("by default", "only by full", "by neither", "smaller", "nothing changed")
    yield f"\n| {title} | type | larger than {LARGE:g} × | {' | '.join(head)} |"
    yield f"| --- | --- | {' | '.join(['--:'] * (len(head) + 1))} |"
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row), row["dtype"]].append(row)
        groups["**all**", row["dtype"]].append(row)
    for (name, dtype), group in sorted(groups.items(), key=lambda item: (item[0][0] == "**all**", item[0])):
        large = [row for row in group if row["size"] >= LARGE and row["acted"]]
        found = Counter(map(outcome, large))
        nothing = sum(not row["acted"] or row["size"] == 0 for row in group)
        smaller = len(group) - len(large) - nothing
        cells = (name, dtype, len(large), found["default"], found["full"], found["missed"], smaller, nothing)
        yield f"| {' | '.join(map(str, cells))} |"


# Sound runs.

ARCHITECTURES = (
    "gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gptj", "gpt_neox",
    "opt", "bloom", "falcon", "olmo2", "granite", "starcoder2", "stablelm", "cohere2", "glm", "nemotron", "exaone4",
    "mixtral", "qwen3_moe", "olmoe", "gpt_oss", "deepseek_v3", "falcon_h1", "jamba", "lfm2", "qwen3_next",
    "recurrent_gemma", "bart", "roformer", "embedded", "own-linear", "own-matmul", "own-einsum", "own-bmm",
    "own-conv1d",
)  # fmt: skip
UNCHUNKED = ("jamba", "falcon_h1", "recurrent_gemma", "qwen3_next", "lfm2", "bart", "roformer")
SLOW = ("falcon_h1", "qwen3_next", "jamba", "recurrent_gemma")  # of which a run is shorter
FURTHER_ARMS: tuple[Mapping[str, Any], ...] = (
    {"mode": "cached", "cache": "static"},
    {"mode": "generate"},
    {"mode": "cached", "attention": "eager"},
    {"mode": "cached", "attention": "math"},
    {"mode": "nocache"},
    {"mode": "nocache", "bucket": 16},
)


def sound_case(number: int, seed: int) -> dict[str, Any]:
    """What sound run `number` is."""
    dice = random.Random(f"{seed}:{number}")
    kind = ARCHITECTURES[number % len(ARCHITECTURES)]
    own = kind.startswith("own")
    rows, batches = dice.choice((1, 1, 2, 3)), dice.choice((1, 2))
    longest = dice.randint(8, 40)
    lengths = [longest if own or dice.random() < 0.5 else dice.randint(4, longest) for _ in range(rows * batches)]
    if rows == 1 and not own:
        lengths = [dice.randint(4, 48) for _ in lengths]
    chunk = dice.choice((None, None, 7)) if kind not in UNCHUNKED else None
    further = [] if own else [dict(dice.choice(FURTHER_ARMS))]
    return {
        "number": number,
        "kind": kind,
        "dtype": ("float32", "bfloat16", "float16")[number // len(ARCHITECTURES) % 3],
        "seed": dice.randrange(10**6),
        "width": dice.choice((0.5, 1.0, 1.5, 2.5)),
        "lengths": lengths,
        "rows": rows,
        "new_tokens": dice.randint(6, 14) if kind in SLOW else dice.randint(6, 40),
        "chunk": chunk,
        "temperature": dice.choice((0.0, 0.0, 0.0, 0.8)),
        "penalty": dice.choice((1.0, 1.0, 1.0, 1.2)),
        "arms": [{"mode": "cached"}, *further],
    }


def sound_rows(number: int, seed: int, ratios: bool, checks: str) -> list[Row]:
    """One sound run: a row for each of its candidates; without the arms that kvbench refuses."""
    from judge_models import Shape
    from judge_runs import Run, Work, model_of, prompts, without_collecting

    from kvbench.errors import KvbenchError

    case = sound_case(number, seed)
    shape = Shape(case["kind"], case["seed"], case["width"])
    model = model_of(shape, case["dtype"])
    work = Work(
        prompts(case["lengths"], case["seed"]), case["new_tokens"], case["rows"], case["chunk"], case["temperature"],
        case["penalty"], case["seed"],
    )  # fmt: skip
    arms, refused = case["arms"], []
    with without_collecting():
        while True:
            try:
                run = Run(model, work, [None] * len(arms), arms)
                told = {check: _all_told(run.judged(check)) for check in checks.split(",")}
                break
            except (KvbenchError, ValueError, RuntimeError) as error:
                refused.append({"case": case, "arm": arms[-1], "refused": f"{type(error).__name__}: {error}"[:300]})
                if not (arms := arms[:-1]):
                    return refused
        measured = _ratios(model, shape, run, case["dtype"]) if ratios else {}
    rows = [
        {
            "case": case,
            "arm": arm,
            "passes_s": run.passes_s / (len(arms) + 1),
            **{check: found[place] for check, found in told.items()},
            **(measured if place == 0 else {}),
        }
        for place, arm in enumerate(arms)
    ]
    return rows + refused


def _ratios(model: Any, shape: Any, run: Any, dtype: str) -> Row:
    """How the cached arm's rounding compares with recompute's, by batch."""
    from judge_runs import Truth, paths_of

    truth = Truth(model, shape, dtype, run.work, paths_of(run))
    found: list[Row] = []
    for number in range(len(truth.paths)):
        recomputed, cached = truth.errors(number)
        found.append({"recomputed": recomputed.tolist(), "cached": cached.tolist()})
    return {"errors": found}


def sound_tables(rows: Iterable[Row]) -> Iterator[str]:
    """Markdown: comparisons and false alarms by architecture and type, each false alarm, and the ratios."""
    rows = list(rows)
    yield from (f"BROKEN {row['broken']}" for row in rows if "broken" in row)
    rows = [row for row in rows if "broken" not in row]
    judged = [row for row in rows if "passes_s" in row]
    checks = [check for check in ("few", "full") if any(check in row for row in judged)]
    for check in checks:
        yield f"\n| check {check} | runs | comparisons | false alarms | not judged |"
        yield "| --- | --: | --: | --: | --: |"
        for dtype in ("float32", "bfloat16", "float16"):
            mine = [row for row in judged if row["case"]["dtype"] == dtype]
            runs = len({row["case"]["number"] for row in mine})
            verdicts = [row[check]["verdict"] for row in mine]
            yield f"| {dtype} | {runs} | {len(mine)} | {verdicts.count('MISMATCH')} | {verdicts.count(None)} |"
    yield "\n## False alarms, and what was not judged\n"
    for row in judged:
        for check in checks:
            if row[check]["verdict"] in ("MISMATCH", None):
                yield f"- {check} {_words(row)}: {row[check]['verdict']}: {row[check]['detail']}"
    refused = Counter(f"{row['case']['kind']} {row['arm']}: {row['refused']}"[:160] for row in rows if "refused" in row)
    yield f"\n## Refused: {sum(refused.values())}\n"
    yield from (f"- {count} × {words}" for words, count in refused.most_common())
    yield from _ratio_table([row for row in judged if "errors" in row])
    for check in checks:
        took, passes = sum(row[check]["seconds"] for row in judged), sum(row["passes_s"] for row in judged)
        yield f"\n{check}: {took:.0f} s, {took / passes:.2f} of the untimed passes of as many arms"


def _words(row: Row) -> str:
    case = row["case"]
    shown = ("number", "dtype", "width", "lengths", "rows", "new_tokens", "chunk", "temperature", "penalty")
    arm = ", ".join(f"{key}={value}" for key, value in row["arm"].items())
    return f"{case['kind']} ({arm}; " + ", ".join(f"{name} {case[name]}" for name in shown) + ")"


def _ratio_table(rows: Sequence[Row]) -> Iterator[str]:
    """Pooled over a batch, and at the worst step: the cached arm's rounding over recompute's."""
    if not rows:
        return
    import numpy

    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for row in rows:
        for batch in row["errors"]:
            recomputed, cached = (numpy.array(batch[name]) for name in ("recomputed", "cached"))
            usual = numpy.sqrt((recomputed**2).mean(0))
            if not (usual > 0).all():
                continue
            pooled = numpy.sqrt((cached**2).mean(0)) / usual
            steps = cached / numpy.maximum(recomputed, usual)
            extra = cached / numpy.maximum(recomputed, 1e-30)
            numbers = float(pooled.max()), float(steps.max()), float(extra.max())
            groups[row["case"]["dtype"], row["case"]["kind"]].append(numbers)
            groups[row["case"]["dtype"], "**all**"].append(numbers)
    head = ("pooled: median, 99 %, largest", "worst step over its own and the usual", "worst step over its own")
    yield f"\n| type | architecture | batches | {' | '.join(head)} |"
    yield f"| --- | --- | --: | {' | '.join(['--:'] * len(head))} |"
    for (dtype, kind), found in sorted(groups.items()):
        columns = (numpy.array(column) for column in zip(*found, strict=True))
        cells = (f"{numpy.median(c):.2f}, {numpy.quantile(c, 0.99):.2f}, {c.max():.2f}" for c in columns)
        yield f"| {dtype} | {kind} | {len(found)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
