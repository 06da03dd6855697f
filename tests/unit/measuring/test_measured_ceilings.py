"""Measuring what a machine can do at most: on little, so that it takes a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.measuring import probes as measuring
from kvbench.measuring.probes import Extent, measure_ceilings

Run = Callable[..., tuple[int, str, str]]
LITTLE = Extent(sets=(2**16, 2**20), shapes=((1, 64), (8, 64)), launches=20, round_s=1e-4)
ENVIRONMENT: dict[str, Any] = {"device": "cpu", "device_name": "Some CPU"}
CPU = torch.device("cpu")


def test_every_extent_is_measured_with_its_type_and_shape() -> None:
    heard: list[str] = []
    found = measure_ceilings(CPU, ENVIRONMENT, 2**30, heard.append, LITTLE)
    assert [2**16, 2**20] == [rate.set_bytes for rate in found.read]
    shapes = [(rate.dtype, rate.rows, rate.width) for rate in found.matrix]
    assert [(kind, rows, 64) for kind in ("float32", "bfloat16", "float16") for rows in (1, 8)] == shapes
    assert "reading 1 MiB" in heard
    assert "Some CPU" == found.device_name


def test_a_set_that_the_free_memory_is_too_small_for_is_left_out() -> None:
    found = measure_ceilings(CPU, ENVIRONMENT, 2**20, lambda _: None, LITTLE)
    assert [2**16] == [rate.set_bytes for rate in found.read]


def test_a_type_that_is_too_slow_is_not_tried_at_larger_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_best_s", lambda *_: 0.2)
    found = measure_ceilings(CPU, ENVIRONMENT, 2**30, lambda _: None, LITTLE)
    assert [1, 1, 1] == [rate.rows for rate in found.matrix]
    assert 2 * 64 * 64 / 0.2 == found.matrix[0].flops_per_s


def test_doctor_measures_keeps_and_finds_them_again(
    run_kvbench: Run, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measuring, "ON_A_CPU", LITTLE)
    code, out, err = run_kvbench("doctor", "--ceilings", "--device", "cpu", "--json")
    told = {finding["name"]: finding for finding in json.loads(out)}
    assert (0, "") == (code, err)
    assert {"ceilings", "read bandwidth", "matrix rate float32", "launch", "ceilings kept"} <= set(told)
    (kept,) = (tmp_path / "cache" / "kvbench").iterdir()
    assert str(kept) == told["ceilings kept"]["detail"]
    if not torch.cuda.is_available():
        again = {finding["name"]: finding for finding in json.loads(run_kvbench("doctor", "--json")[1])}
        assert told["launch"] == again["launch"]


def test_doctor_names_a_device_that_is_not_there(run_kvbench: Run) -> None:
    code, _, err = run_kvbench("doctor", "--ceilings", "--device", "cuda:99", "--json")
    assert 2 == code
    assert "device=cuda" in err


def test_doctor_says_so_when_others_kept_the_machine_busy(run_kvbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "ON_A_CPU", LITTLE)
    monkeypatch.setattr("kvbench.measuring.environment.ForeignCpuLoad.busy", lambda _: 1.5)
    _, out, _ = run_kvbench("doctor", "--ceilings", "--device", "cpu", "--json")
    told = {finding["name"]: finding for finding in json.loads(out)}["quiet machine"]
    assert (False, "other processes kept 1.5 cores busy: the figures above are too low") == (
        told["works"],
        told["detail"],
    )
