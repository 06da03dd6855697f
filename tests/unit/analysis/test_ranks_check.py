"""Ranks that do not decode one model together make a run INVALID: other tokens, or other bytes than predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kvbench.analysis.checks import run_checks
from kvbench.analysis.limits import DISTURBED, limit
from kvbench.config.compose import load_config, sources
from kvbench.plan import Plan, make_plan
from kvbench.records.run_record import Check
from kvbench.records.samples import RunSamples
from kvbench.running.job import run_job
from kvbench.running.scripted import ScriptedBackend
from kvbench.running.team import RankPlace

SCRIPT = ("model=scripted", "model.tensor_parallel=2", "workload.prompt_tokens=5", "workload.new_tokens=4")


@pytest.fixture
def shared() -> tuple[Plan, RunSamples]:
    plan, samples = make_plan(load_config([*SCRIPT, "stream.interval=0"], sources())), RunSamples()
    run_job(ScriptedBackend(plan.config.model, RankPlace(0, 2, 0, None)).session(plan), samples.add)
    return plan, samples


def check_of(plan: Plan, samples: RunSamples) -> Check:
    (found,) = [check for check in run_checks(plan, samples) if check.name == "ranks"]
    return found


def tokens_of_a_timed_generation(samples: RunSamples) -> None:
    block = samples.all_blocks[2]
    visits = (replace(block.visits[0], ranks_apart=1), *block.visits[1:])
    samples.all_blocks[2] = replace(block, visits=visits)


def tokens_of_the_untimed_pass(samples: RunSamples) -> None:
    first, second = samples.untimed[1].ranks
    samples.untimed[1] = replace(samples.untimed[1], ranks=(first, second.model_copy(update={"same_tokens": False})))


def bytes_of_a_rank(samples: RunSamples) -> None:
    first, second = samples.untimed[1].ranks
    twice = second.model_copy(update={"kv_cache_bytes": 2 * (second.kv_cache_bytes or 0)})
    samples.untimed[1] = replace(samples.untimed[1], ranks=(first, twice))


@pytest.mark.parametrize(("exchanged_s", "told"), [(0.0005, 0.0005), (0.002, None)])  # a step takes 1 ms
def test_an_exchange_that_is_no_part_of_a_step_is_not_told(
    exchanged_s: float, told: float | None, shared: tuple[Plan, RunSamples]
) -> None:
    plan, samples = shared
    samples.work[1] = replace(samples.work[1], communication_s=exchanged_s)
    found = limit(plan, samples, 1, None)
    assert told == found.communication_s
    assert told is not None or DISTURBED == found.why_null("communication_s")


def test_all_alike_pass(shared: tuple[Plan, RunSamples]) -> None:
    assert check_of(*shared).passed


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (tokens_of_a_timed_generation, "1 generations of a rank had other tokens than rank 0's"),
        (tokens_of_the_untimed_pass, "1 generations of a rank had other tokens than rank 0's"),
        (bytes_of_a_rank, "rank 1 holds 64.0 B of KV cache, and 32.0 B were predicted"),
    ],
)
def test_one_that_differs_fails(
    break_it: Callable[[RunSamples], None], said: str, shared: tuple[Plan, RunSamples]
) -> None:
    plan, samples = shared
    break_it(samples)
    found = check_of(plan, samples)
    assert (False, said) == (found.passed, found.detail)
