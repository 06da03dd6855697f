"""Parts that make no arm, or that this machine has not, are refused in one line before anything is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from kvbench.arm import Arm, arm_conflict, device_conflict
from kvbench.installation import install_hint

Run = Callable[..., tuple[int, str, str]]


def arm(attention: str, *, mode: str = "cached", cache: str = "dynamic", engine: str = "eager") -> Arm:
    return Arm(mode=mode, cache=cache, engine=engine, attention=attention)


@pytest.fixture
def every_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.usefixtures("every_package")
class TestAnArm:
    @pytest.mark.parametrize("attention", ["flex", "flash_attention_2", "flash_attention_3"])
    def test_whose_attention_masks_no_unwritten_keys_wants_a_cache_that_grows(self, attention: str) -> None:
        assert arm_conflict(arm(attention)) is None
        expected = f"attention {attention} goes with a cache that grows, such as dynamic, not static"
        assert expected == arm_conflict(arm(attention, cache="static"))

    def test_of_flex_compiles_itself(self) -> None:
        expected = "attention flex compiles itself and goes with engine eager, not graph"
        assert expected == arm_conflict(arm("flex", mode="nocache", cache="none", engine="graph"))

    @pytest.mark.parametrize("attention", ["flex", "flash_attention_2", "flash_attention_3"])
    def test_of_an_attention_for_gpus_needs_one(self, attention: str) -> None:
        assert device_conflict(arm(attention), "cuda") is None
        expected = f"attention={attention} needs a CUDA device, the run is on cpu: use attention=sdpa or math"
        assert expected == device_conflict(arm(attention), "cpu")

    def test_that_takes_no_mask_cannot_have_a_static_cache(self) -> None:
        expected = "attention=flash takes no mask on cuda, and cache static needs one"
        assert expected == device_conflict(arm("flash", cache="static"), "cuda")
        assert device_conflict(arm("flash", cache="static"), "cpu") is None
        assert device_conflict(arm("flash"), "cuda") is None


MISSING = {  # choice: the package, the extra that brings it
    "attention=flash_attention_2": ("flash_attn", None),
    "attention=flash_attention_3": ("flash_attn_3", None),
    "cache=hqq_int4": ("hqq", "hqq"),
    "cache=quanto_int2": ("optimum.quanto", "quanto"),
    "model.quantization=nf4": ("bitsandbytes", "bitsandbytes"),
    "model.quantization=int4_weight_only": ("torchao", "torchao"),
}


@pytest.mark.parametrize("choice", MISSING)
def test_a_package_that_is_missing_is_named(
    run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    package, extra = MISSING[choice]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, err = run_kvbench("model=embedded", "mode=cached", choice)
    # Nothing on standard output: not even the line that says what is going to be measured.
    assert (2, "") == (code, out)
    remedy = install_hint(extra) if extra else "install it, or use another"
    assert f"kvbench: {choice} needs the package {package}, which is not installed: {remedy}\n" == err


def test_weights_without_kernels_on_the_device_asked_for_are_refused(
    run_kvbench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    code, out, err = run_kvbench("model=embedded", "model.quantization=int4_weight_only", "device=cpu")
    assert (2, "") == (code, out)
    assert (
        "kvbench: model.quantization=int4_weight_only: torchao has no kernels for cpu; use device=cuda or"
        " model.quantization=none\n" == err
    )


@pytest.mark.parametrize("mode", ["nocache", "generate_nocache"])
def test_a_chunked_prefill_without_a_cache_is_refused(run_kvbench: Run, mode: str) -> None:
    code, out, err = run_kvbench("model=embedded", f"mode={mode}", "workload.prefill_chunk=4")
    assert (2, "") == (code, out)
    assert "kvbench: workload.prefill_chunk=4: has no effect without a mode that keeps a cache; " in err


def test_generate_compiles_once_for_every_pinned_backend() -> None:
    arm = Arm(mode="generate", cache="static", engine="compiled", attention="flash")
    assert "generate compiles once for all of SDPA's backends: leave attention=flash out" == arm_conflict(arm)


@pytest.mark.parametrize("key", ["mode=cached", "cache=static", "engine=compiled", "attention=math", "bucket=64"])
def test_a_key_that_a_list_of_arms_would_pass_over_is_refused(run_kvbench: Run, key: str) -> None:
    code, out, err = run_kvbench("model=embedded", "experiment=habits", key)
    assert (2, "") == (code, out)
    assert (
        f"kvbench: {key}: has no effect beside a list of arms, each of which has its own; write it there, or take the"
        " list away with arms=null, or remove it\n" == err
    )
