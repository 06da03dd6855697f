"""The check that finds a host waiting for its GPU, on made-up events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from host_waits import FIRST, LAST, host_waits


def event(name: str, start: float, end: float | None = None) -> Any:
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=start if end is None else end))


TOKENS = [event(FIRST, 10, 11), event(LAST, 50, 51)]


@pytest.mark.parametrize(
    "name",
    [
        "cudaStreamSynchronize",
        "cudaDeviceSynchronize",
        "cudaEventSynchronize",
        "cudaMemcpy",
        "cudaStreamSynchronize_v3020",
    ],
)
def test_a_call_that_waits_counts_between_the_first_token_and_the_last(name: str) -> None:
    assert [name] == host_waits([event(name, 5), event(name, 30), event(name, 60), *TOKENS])


@pytest.mark.parametrize("name", ["cudaMemcpyAsync", "cudaLaunchKernel", "cudaGraphLaunch", "Memcpy DtoD", "aten::mm"])
def test_what_waits_for_nothing_does_not_count(name: str) -> None:
    assert [] == host_waits([*TOKENS, event(name, 30)])


def test_a_copy_to_the_host_counts_wherever_the_device_makes_it() -> None:
    name = "Memcpy DtoH (Device -> Pageable)"
    assert [name, name] == host_waits([*TOKENS, event(name, 70), event(name, 20)])


def test_a_trace_without_tokens_proves_nothing() -> None:
    with pytest.raises(AssertionError, match="no first and last token"):
        host_waits([event("cudaMemcpyAsync", 30)])
