"""Both modes on the embedded model, for pytest-benchmark: save a baseline, fail on a regression.

The time of a round is one whole visit of one prompt, prefill and decode, in the throughput lane.
"""

from __future__ import annotations

from typing import Any

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.plan import make_plan
from kvbench.running.sessions import Session
from kvbench.running.visits import visit
from kvbench.running.worker import open_backend

MODES = ("nocache", "cached")
NEW_TOKENS = 16
ROUNDS = 20  # the minimum of 5 rounds moved more between two sessions of one machine


@pytest.fixture(scope="module")
def session() -> Session:
    """The model is loaded once."""
    overrides = ["workload.prompt_tokens=256", f"workload.new_tokens={NEW_TOKENS}", "device=cpu"]
    plan = make_plan(load_config(overrides, sources()))
    return open_backend(plan).session(plan)


@pytest.mark.benchmark(group="decode")
@pytest.mark.parametrize("arm", range(len(MODES)), ids=MODES)
def test_decoding(benchmark: Any, session: Session, arm: int) -> None:
    last = benchmark.pedantic(
        visit,
        args=(session, arm, session.batches[0], "throughput", None),
        rounds=ROUNDS,
        warmup_rounds=1,
        iterations=1,
    )
    memory = session.untimed.pass_of(session, arm).memory
    benchmark.extra_info["decode_tokens_per_s"] = (last.new_tokens - last.sequences) / last.decode_s
    benchmark.extra_info["kv_cache_bytes"] = memory.kv_cache_bytes
    benchmark.extra_info["process_rss_bytes"] = memory.process_rss_bytes
    assert NEW_TOKENS == last.new_tokens
    assert 0 == last.violations
