"""kvbench's arms beside other ways to decode the same model, prompt and lengths: ms a token and ratios, in one process.

    python tests/benchmarks/peers.py [--model gemma2b] [--weights random] [--rounds N] [KEY=VALUE ...]

Beside kvbench's arms run a bare loop, `generate` (dynamic, static, no cache) and gpt-fast's recipe, rebuilt in
gpt_fast_recipe.py. None needs a package of its own. Every round runs each contender once, in random order; what is
timed is the decoding after the first token. The keys are kvbench's own, such as `workload.batch_size=8`.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpt_fast_recipe import Recipe, refusal
from transformers import DynamicCache, GenerationConfig, StoppingCriteria, StoppingCriteriaList

from kvbench.arm import Arm, arm_conflict, device_conflict
from kvbench.capabilities import ENGINES, static_length
from kvbench.config.compose import load_config, sources
from kvbench.measuring.clocks import Clock
from kvbench.models.signature import library_cache
from kvbench.plan import make_plan
from kvbench.running.visits import visit
from kvbench.running.worker import open_backend
from kvbench.statistics import median, median_interval, ratio_interval

RECOMPUTE = "kvbench recompute, eager"
EAGER = "kvbench cached, eager dynamic"
PREPARED = {
    "kvbench cached, compiled static": Arm("cached", "static", "compiled", "auto"),
    "kvbench cached, compiled static grouped": Arm("cached", "static", "compiled", "grouped"),
    "kvbench cached, fused": Arm("cached", "static", "fused", "auto"),
}
BARE = "bare loop, dynamic"
DYNAMIC, STATIC, NONE = "generate, dynamic", "generate, static", "generate, no cache"
RECIPE = "gpt-fast's recipe"
PAIRS = (
    (EAGER, (BARE, DYNAMIC)),
    *((name, (DYNAMIC, STATIC, RECIPE)) for name in PREPARED),
    (RECOMPUTE, (NONE,)),
)
Contender = Callable[[], tuple[float, list[int]]]  # decodes once: seconds after the first token, the first row's ids


def main() -> None:
    options = _options()
    arms = {RECOMPUTE: Arm("nocache", "none", "eager", "auto"), EAGER: Arm("cached", "dynamic", "eager", "auto")}
    plan = make_plan(load_config([*_overrides(options), f"arms=[{','.join(map(_written, arms.values()))}]"], sources()))
    tell(f"loading {plan.model_name}")
    backend: Any = open_backend(plan)
    arms |= {name: arm for name, arm in PREPARED.items() if _runs(arm, backend.device.type)}
    plan = make_plan(load_config([*_overrides(options), f"arms=[{','.join(map(_written, arms.values()))}]"], sources()))
    session: Any = backend.session(plan)
    batch, new_tokens = session.batches[0], plan.config.workload.new_tokens
    rows, prompt = batch.input_ids.shape
    print(f"{plan.model_name} on {session.prepared.environment['device_name']}, {options.rounds} rounds")
    print(f"{prompt:,} prompt tokens, {new_tokens:,} new tokens, batch {rows}", flush=True)
    contenders: dict[str, Contender] = {
        **{name: _arm(session, number) for number, name in enumerate(arms)},
        **dict(_peers(backend, batch.input_ids, new_tokens, session.clock)),
    }
    seconds, ids = measure(contenders, options.rounds)
    report({name: [each / (new_tokens - 1) for each in samples] for name, samples in seconds.items()}, ids)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="a file of conf/model (default: %(default)s)")
    parser.add_argument("--weights", choices=("hub", "random"), help="default: the model file's own")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: an interval needs at least 2")
    return options


def _overrides(options: argparse.Namespace) -> list[str]:
    weights = [f"model.weights={options.weights}"] if options.weights else []
    return [f"model={options.model}", *weights, "workload.prompt_tokens=128", *options.overrides]


def _written(arm: Arm) -> str:
    return f"{{mode: {arm.mode}, cache: {arm.cache}, engine: {arm.engine}, attention: {arm.attention}}}"


def _runs(arm: Arm, device_type: str) -> bool:
    return arm.engine in ENGINES and arm_conflict(arm) is None and device_conflict(arm, device_type) is None


def _arm(session: Any, number: int) -> Contender:
    def run() -> tuple[float, list[int]]:
        made = visit(session, number, session.batches[0], "throughput", None)
        return made.decode_s, []  # a visit checks its ids itself and keeps their digest

    return run


def _peers(backend: Any, ids: torch.Tensor, new_tokens: int, clock: Clock) -> Iterator[tuple[str, Contender]]:
    model = backend.loaded.model
    model.generation_config = GenerationConfig()  # a checkpoint's own could add penalties or stop tokens

    def as_loaded(run: Contender) -> Contender:
        """With the model's own attention, which kvbench's arms may have changed; not timed."""

        def contender() -> tuple[float, list[int]]:
            if model.config._attn_implementation != backend.own_attention:
                model.set_attn_implementation(backend.own_attention)
            return run()

        return contender

    yield BARE, as_loaded(lambda: bare_loop(model, ids, new_tokens, clock))
    for name, arguments in (
        (DYNAMIC, {"use_cache": True}),
        (STATIC, {"use_cache": True, "cache_implementation": "static"}),
        (NONE, {"use_cache": False}),
    ):
        yield name, as_loaded(lambda arguments=arguments: generate(model, ids, new_tokens, clock, **arguments))  # type: ignore[misc]
    length = static_length(ids.shape[1] + new_tokens)
    if (why := refusal(model, length)) is not None:
        print(f"{RECIPE}: left out, {why}")
        return
    recipe = Recipe(model, ids.shape[0], length)
    yield RECIPE, lambda: run_recipe(recipe, ids, new_tokens, clock)


@torch.inference_mode()
def bare_loop(model: Any, ids: torch.Tensor, new_tokens: int, clock: Clock) -> tuple[float, list[int]]:
    """What anyone would write."""
    cache, newest, new = DynamicCache(config=model.config), ids, []
    for index in range(new_tokens):
        logits = model(input_ids=newest, **library_cache(cache), use_cache=True, logits_to_keep=1).logits
        newest = logits[:, -1].argmax(-1, keepdim=True)
        new.append(newest)
        if index == 0:
            clock.synchronise()
            started = time.perf_counter()
    clock.synchronise()
    return time.perf_counter() - started, torch.cat(new, dim=1)[0].tolist()


class _FirstToken(StoppingCriteria):
    """Never stops; starts the time when the first new token is there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started: float | None = None

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        if self.started is None:
            self._clock.synchronise()
            self.started = time.perf_counter()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def generate(model: Any, ids: torch.Tensor, new_tokens: int, clock: Clock, **arguments: Any) -> tuple[float, list[int]]:
    """`generate` as a user calls it; on a GPU it compiles its step by itself beside a static cache."""
    config = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, pad_token_id=0, **arguments)
    first = _FirstToken(clock)
    with torch.inference_mode():
        mask = torch.ones_like(ids)
        found = model.generate(
            ids, attention_mask=mask, generation_config=config, stopping_criteria=StoppingCriteriaList([first])
        )
    clock.synchronise()
    assert first.started is not None
    return time.perf_counter() - first.started, found[0, ids.shape[1] :].tolist()


@torch.no_grad()
def run_recipe(recipe: Recipe, ids: torch.Tensor, new_tokens: int, clock: Clock) -> tuple[float, list[int]]:
    """A prefill as it is, then compiled steps whose position stays on the device."""
    prompt = ids.shape[1]
    token = recipe.next_token(ids, torch.arange(prompt, device=ids.device))
    position = torch.tensor([prompt], device=ids.device)
    new = [token]
    clock.synchronise()
    started = time.perf_counter()
    for _ in range(new_tokens - 1):
        token = recipe.step(token, position).clone()  # the graph's next replay writes over its output
        new.append(token)
        position += 1
    clock.synchronise()
    return time.perf_counter() - started, torch.cat(new, dim=1)[0].tolist()


def measure(contenders: dict[str, Contender], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Seconds of decoding per contender and round, and the ids that each writes; two unmeasured rounds first."""
    ids: dict[str, list[int]] = {}
    for number in range(2):
        for name, run in contenders.items():
            began = time.perf_counter()
            ids[name] = run()[1]
            tell(f"{'first visit' if number == 0 else 'warm-up'}: {name}, {time.perf_counter() - began:.1f} s")
    dice = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        for name in dice.sample(list(contenders), len(contenders)):
            seconds[name].append(contenders[name]()[0])
    return seconds, ids


def report(step_s: dict[str, list[float]], ids: dict[str, list[int]]) -> None:
    """Medians with their intervals, how many tokens a peer has in common with the bare loop, and paired ratios."""
    print(f"\n{'decode':<42} ms/token, median over rounds [95 % interval]")
    for name, samples in step_s.items():
        found = median_interval(samples)
        reach = f"[{found.low * 1e3:.3f}, {found.high * 1e3:.3f}]" if found else "[at least 6 rounds]"
        print(f"  {name:<40} {median(samples) * 1e3:9.3f} {reach:<20}{_in_common(ids.get(name), ids[BARE])}")
    print(f"\n{'decode tokens/s':<75} geometric mean of paired ratios [95 % interval]")
    for ours, theirs in PAIRS:
        for other in theirs:
            if ours in step_s and other in step_s:
                found = ratio_interval([a / b for a, b in zip(step_s[other], step_s[ours], strict=True)])
                print(f"  {f'{ours} ÷ {other}':<73} {found.value:7.3f} [{found.low:.3f}, {found.high:.3f}]")


def _in_common(ids: list[int] | None, others: list[int]) -> str:
    """How many tokens agree before the first that does not: rounding turns a near-tie in random or 16-bit weights."""
    if not ids:
        return ""
    alike = next((place for place, (a, b) in enumerate(zip(ids, others, strict=True)) if a != b), len(ids))
    return f"  the bare loop's tokens up to {alike} of {len(ids)}"


def tell(line: str) -> None:
    """A line of progress."""
    print(f"… {line}", flush=True)


if __name__ == "__main__":
    main()
