"""What the harness costs, and whether its cached loop keeps up with `generate`: ratios, side by side in one process.

    python tests/benchmarks/overhead.py [--blocks N] [KEY=VALUE ...]

The keys are kvbench's own, for example `model=gemma2b model.weights=random workload.prompt_tokens=1024`. Every block
runs each contender once, in random order; a ratio is the geometric mean over blocks with its 95 % interval.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache

from kvbench.config.compose import load_config, sources
from kvbench.measuring.clocks import Clock
from kvbench.models.signature import library_cache
from kvbench.plan import make_plan
from kvbench.running.visits import visit
from kvbench.running.worker import open_backend
from kvbench.statistics import ratio_interval

KVBENCH_ARMS = ("nocache", "cached", "generate")
RATIOS = (
    ("kvbench nocache / bare loop", "bare nocache", "nocache"),
    ("kvbench cached / bare loop", "bare cached", "cached"),
    ("kvbench cached / generate", "generate", "cached"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    arms = "arms=[" + ",".join(f"{{mode: {mode}}}" for mode in KVBENCH_ARMS) + "]"
    plan = make_plan(load_config(["workload.prompt_tokens=128", *options.overrides, arms], sources()))
    backend: Any = open_backend(plan)
    session: Any = backend.session(plan)
    model, batch, new_tokens = backend.loaded.model, session.batches[0], plan.config.workload.new_tokens
    contenders: dict[str, Callable[[], float]] = {
        **{
            mode: lambda arm=arm: visit(session, arm, session.batches[0], "throughput", None).decode_s
            for arm, mode in enumerate(KVBENCH_ARMS)
        },
        "bare nocache": lambda: bare_nocache(model, batch.input_ids, new_tokens, session.clock),
        "bare cached": lambda: bare_cached(model, batch.input_ids, new_tokens, session.clock),
    }
    device = session.prepared.environment["device_name"]
    print(f"{plan.model_name} on {device}, {options.blocks} blocks")
    print(f"{batch.input_ids.shape[1]} prompt tokens, {new_tokens} new tokens")
    seconds = measure(contenders, options.blocks)
    for name, samples in seconds.items():
        print(f"  {name:<14} {sorted(samples)[len(samples) // 2] / (new_tokens - 1) * 1e3:8.3f} ms a step (median)")
    for title, slower, faster in RATIOS:
        interval = ratio_interval([a / b for a, b in zip(seconds[slower], seconds[faster], strict=True)])
        print(f"{title:<28} decode tokens/s x {interval.value:.4f}  [{interval.low:.4f}, {interval.high:.4f}]")


def measure(contenders: dict[str, Callable[[], float]], blocks: int) -> dict[str, list[float]]:
    """Seconds of decoding per contender and block; two unmeasured rounds first."""
    for _ in range(2):
        for run in contenders.values():
            run()
    dice = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(blocks):
        for name in dice.sample(list(contenders), len(contenders)):
            seconds[name].append(contenders[name]())
    return seconds


@torch.inference_mode()
def bare_nocache(model: Any, ids: torch.Tensor, new_tokens: int, clock: Clock) -> float:
    """The loop without a harness: what anyone would write."""
    for index in range(new_tokens):
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits
        ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        if index == 0:
            clock.synchronise()
            started = time.perf_counter()
    clock.synchronise()
    return time.perf_counter() - started


@torch.inference_mode()
def bare_cached(model: Any, ids: torch.Tensor, new_tokens: int, clock: Clock) -> float:
    """The same with a cache."""
    cache, newest = DynamicCache(config=model.config), ids
    for index in range(new_tokens):
        logits = model(input_ids=newest, **library_cache(cache), use_cache=True, logits_to_keep=1).logits
        newest = logits[:, -1].argmax(-1, keepdim=True)
        if index == 0:
            clock.synchronise()
            started = time.perf_counter()
    clock.synchronise()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
