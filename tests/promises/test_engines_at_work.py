"""An arm is what it is called: one whose passes went past its engine is refused, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compiling import plainly
from transformers import DynamicCache, StaticCache

from kvbench.decoding.engines import engine
from kvbench.decoding.engines.compiled import Compiled
from kvbench.decoding.generate import compiles
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import ModelUnavailable
from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]
QUICK = (
    *("launch=inline", "device=cpu", "threads=1", "measure.blocks=5", "report=false", "stream.interval=0"),
    *("measure.warmup=0", "check.agreement=none"),
)
SHORT = ("workload.prompt_tokens=20", "workload.new_tokens=4")


@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("workload.prompt_tokens=1",),
        pytest.param(("workload.prefill_chunk=1",), marks=pytest.mark.slow),
        ("workload.prefill_chunk=19",),  # a last piece of one token, which is no step
        ("workload.stop=[1]",),
    ],
    ids=str,
)
def test_an_engine_that_repeats_every_step_is_measured(
    run_kvbench: Run, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Compiled, "_prepared", plainly)
    arms = "arms=[{mode: cached, engine: compiled},{mode: nocache, engine: compiled}]"
    code, said, errors = run_kvbench(arms, *QUICK, *SHORT, *keys)
    assert (0, "") == (code, errors), said


def test_an_engine_that_steps_go_past_is_refused(
    run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compiled, "_prepared", plainly)
    monkeypatch.setattr(engine, "_is_prefill", lambda *_: True)
    code, _, _ = run_kvbench("mode=cached", "cache=static", "engine=compiled", *QUICK, *SHORT)
    (ended,) = find_runs([tmp_path / "results"]).runs
    reason = "engine=compiled: 3 of 3 passes of GemmaForCausalLM went past it: use engine=eager"
    assert (1, "refused", reason) == (code, ended.record.status, ended.record.status_reason)


def test_generate_on_a_cpu_is_known_not_to_compile(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model._compiled_call = model.forward  # what an earlier run elsewhere would leave
    assert not compiles(model, StaticCache(config=model.config, max_cache_len=16))


def test_generate_on_a_gpu_is_known_to_compile_beside_a_static_cache_alone(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    static = StaticCache(config=model.config, max_cache_len=16)
    assert not compiles(model, static)  # no run has compiled anything yet
    model._compiled_call = model.forward
    assert compiles(model, static)
    assert not compiles(model, DynamicCache(config=model.config))


@pytest.mark.parametrize(
    ("attention", "error", "words"),
    [
        ("efficient", RuntimeError("No available kernel. Aborting execution."), "SDPA has no such kernel for these"),
        ("flex", type("InductorError", (RuntimeError,), {})("No choices\nto select"), "kernel (No choices to select)"),
    ],
)
def test_an_attention_without_a_kernel_is_named_in_one_line(attention: str, error: Exception, words: str) -> None:
    told = pytest.raises(ModelUnavailable, match=f"^attention={attention}: .*: use attention=sdpa$")
    with told as caught, SessionSettings(attention, "sdpa", 0).pinned_backend():
        raise error
    assert words in str(caught.value)


def test_any_other_error_under_a_pinned_attention_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), SessionSettings("math", "sdpa", 0).pinned_backend():
        raise RuntimeError("shapes differ")
