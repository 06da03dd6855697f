"""Every kind of cache through the whole program: bytes to the byte, a verdict that is neither equal nor a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from compiling import plainly
from runs import the_record
from transformers import cache_utils

from kvbench.decoding.engines.compiled import Compiled

Run = Callable[..., tuple[int, str, str]]
QUICK = ("launch=inline", "device=cpu", "threads=1", "measure.blocks=5", "measure.warmup=0", "report=false")
SHORT = ("workload.prompt_tokens=20", "workload.new_tokens=6")
RANDOM = (
    "model=mistral-7b", "model.weights=random", "model.dtype=float32", "model.architecture.num_hidden_layers=2",
    "model.architecture.vocab_size=320", "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=96", "model.architecture.num_attention_heads=4",
    "model.architecture.num_key_value_heads=2", "+model.architecture.head_dim=16",
)  # fmt: skip


@pytest.mark.skipif(not hasattr(cache_utils, "Fp8QuantizedLayer"), reason="this transformers has no fp8 cache")
def test_a_quantised_cache_is_valid_and_not_called_equal(run_kvbench: Run, tmp_path: Path) -> None:
    arms = "arms=[{mode: cached},{mode: cached, cache: static},{mode: cached, cache: fp8},{mode: generate, cache: fp8}]"
    code, said, error = run_kvbench(arms, *QUICK, *SHORT)
    assert code == 0, said + error
    record = the_record(tmp_path / "results")
    for arm in record["arms"]:
        assert arm["memory"]["kv_cache_predicted_bytes"] == arm["memory"]["kv_cache_bytes"]
        assert arm["memory"]["kv_cache_host_bytes"] == 0
    static, fp8, generated = (each["agreement"] for each in record["comparisons"])
    assert static["verdict"] in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
    for lossy in (fp8, generated):
        assert (None, "quantised cache") == (lossy["verdict"], lossy["differs_by"])
        assert lossy["detail"].startswith("differs by the cache's own quantisation (fp8)")
    assert "quantised cache" in said
    assert record["null_reasons"]["/comparisons/1/agreement/verdict"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("cache=offloaded", "mode=cached"), "moves layers between a GPU and the host"),
        (("cache=fp8", "engine=compiled", "mode=cached"), "set cache=static, not fp8"),
        (("cache=offloaded_static", "engine=compiled", "mode=cached"), "tensors that stay in place"),
        (("cache=static", "engine=compiled", "mode=generate"), "generate compiles on a CUDA device only"),
        (("cache=static", "cache_tokens=24", "mode=cached"), "needs 26 (prompt and new tokens)"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_before_anything_is_loaded(
    run_kvbench: Run, keys: tuple[str, ...], said: str
) -> None:
    code, out, error = run_kvbench(*keys, *QUICK, *SHORT)
    assert code == 2
    assert said in error
    assert "loading" not in out + error


def test_a_static_cache_too_short_for_a_prompt_of_ones_own_is_refused(run_kvbench: Run) -> None:
    code, _, error = run_kvbench(
        "mode=cached", "cache=static", "cache_tokens=8", "workload.prompt=a few words that are many tokens long", *QUICK
    )
    assert code == 2
    assert "cache_tokens=8: a static cache of that length is too short" in error


def test_a_static_cache_longer_than_the_model_reads_is_refused(run_kvbench: Run) -> None:
    """It was predicted not to fit, with the advice to take a smaller model."""
    code, _, error = run_kvbench("mode=cached", "cache=static", "cache_tokens=5000", *QUICK, *SHORT)
    assert code == 2
    assert "cache_tokens=5000: longer than the model's context of 4096 tokens" in error


def test_windows_shorter_than_the_run_are_refused_where_a_step_is_repeated(run_kvbench: Run) -> None:
    code, _, error = run_kvbench(
        *RANDOM,
        "+model.architecture.sliding_window=16",
        "mode=cached",
        "cache=static",
        "engine=compiled",
        *QUICK,
        *SHORT,
    )
    assert code == 2
    assert "use engine=eager" in error


@pytest.mark.parametrize("compiler", ["none", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_windows_of_the_runs_length_are_compiled_and_agree(
    run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    if compiler == "none":
        monkeypatch.setattr(Compiled, "_prepared", plainly)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    arms = "arms=[{mode: cached},{mode: cached, cache: static, engine: compiled}]"
    code, said, error = run_kvbench(*RANDOM, "+model.architecture.sliding_window=64", arms, *QUICK, *SHORT)
    assert code == 0, said + error
    record = the_record(tmp_path / "results")
    memory = record["arms"][1]["memory"]
    assert 2 * (2 * 2 * 64 * 16 * 4) + 2 * 8 == memory["kv_cache_predicted_bytes"] == memory["kv_cache_bytes"]
    assert record["comparison"]["agreement"]["verdict"] in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
