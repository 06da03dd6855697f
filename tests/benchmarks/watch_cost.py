"""What `kvbench.watch` costs: the same code with and without it, side by side in one process, and what it says it cost.

    python tests/benchmarks/watch_cost.py [--blocks N] [KEY=VALUE ...]

The keys are kvbench's own, for example `model=gemma2b model.weights=random`. Every block runs each contender once with
and once without the watch, in random order. A ratio is the median over blocks with its 95 % interval, of the thread's
own CPU time on a CPU with one thread (other programs disturb it less) and of the wall clock elsewhere.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

import kvbench
from kvbench.config.compose import load_config, sources
from kvbench.models.signature import library_cache, returned_cache
from kvbench.plan import make_plan
from kvbench.running.worker import open_backend
from kvbench.statistics import median_interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    words = ["workload.prompt_tokens=64", "workload.new_tokens=24", "threads=1", *options.overrides, "mode=cached"]
    plan = make_plan(load_config(words, sources()))
    backend: Any = open_backend(plan)
    session: Any = backend.session(plan)
    model, ids, new_tokens = backend.loaded.model, session.batches[0].input_ids, plan.config.workload.new_tokens
    own_time = ids.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if own_time else time.perf_counter
    contenders: dict[str, Callable[[], object]] = {
        "generate": lambda: model.generate(
            ids, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, pad_token_id=0
        ),
        "loop with a cache": lambda: cached(model, ids, new_tokens),
        "… that reads each token": lambda: cached(model, ids, new_tokens, reads=True),
        "loop without a cache": lambda: whole_text(model, ids, new_tokens),
    }
    print(f"{plan.model_name} on {ids.device}, {ids.shape[1]} prompt tokens, {new_tokens} new ones")
    print(f"time: {'CPU time of the thread' if own_time else 'wall clock'}")
    print(f"{'':26}{'step':>10}{'with / without':>36}{'it says':>10}")
    for name, run in contenders.items():
        plain, watched, said = measure(run, model, clock, options.blocks)
        ratios = [with_ / without for with_, without in zip(watched, plain, strict=True)]
        interval = median_interval(ratios)
        ends = "" if interval is None else f" [{interval.low:.4f}, {interval.high:.4f}]"
        shown = f"{median(ratios):.4f}{ends}"
        print(f"{name:26}{median(plain) / new_tokens * 1e3:7.2f} ms{shown:>36}{median(said):>10.4f}")


def measure(
    run: Callable[[], object], model: Any, clock: Callable[[], float], blocks: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds without and with the watch per block, and the ratio that the watch itself tells."""
    dice = random.Random(0)
    plain, watched, said = [], [], []
    run()
    for _ in range(blocks):
        for with_watch in dice.sample((False, True), 2):
            if not with_watch:
                plain.append(timed(run, clock))
                continue
            with kvbench.watch(model) as seen:
                watched.append(timed(run, clock))
            said.append(1 + seen.record.cost_share)
    return plain, watched, said


def timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began


@torch.inference_mode()
def cached(model: Any, ids: torch.Tensor, new_tokens: int, *, reads: bool = False) -> None:
    """The loop that is right."""
    cache = None
    for _ in range(new_tokens):
        out = model(ids, use_cache=True, logits_to_keep=1, **library_cache(cache))
        cache, ids = returned_cache(out), out.logits[:, -1:].argmax(-1)
        if reads:
            ids[0, 0].item()


@torch.inference_mode()
def whole_text(model: Any, ids: torch.Tensor, new_tokens: int) -> None:
    """The loop that many people start from."""
    for _ in range(new_tokens):
        out = model(ids, use_cache=False, logits_to_keep=1)
        ids = torch.cat([ids, out.logits[:, -1:].argmax(-1)], dim=1)


if __name__ == "__main__":
    main()
