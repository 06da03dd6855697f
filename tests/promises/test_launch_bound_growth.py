"""Where the host runs ahead of the device, a step takes the longer of launching and computing, and the law says so.

A sum of terms fitted to such steps bent below the knee: on an H100 it named 499 tokens as the break-even where both
modes still waited for launches at 1,028.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]

# Both modes launch for 12 ms; recompute computes 10 µs a token, so it begins to show at 1,200 tokens.
LAUNCHES = (
    "experiment=scaling",
    "model=scripted",
    "model.launch_s=0.012",
    "model.cached_step_s=0.004",
    "model.nocache_step_s=1e-9",
    "model.nocache_per_token_s=1e-5",
    "model.noise=0.01",
    "report=false",
    "launch=inline",
)


@pytest.fixture
def growth_of(scripted: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def run(*overrides: str) -> dict[str, Any]:
        return scripted(*LAUNCHES, *overrides)

    return run


def holds(estimate: dict[str, Any], truth: float) -> bool:
    return bool(estimate["ci_low"] <= truth <= estimate["ci_high"])


class TestALaunchBoundRecompute:
    LENGTHS = "scaling.lengths=[128,512,1024,2048,4096,8000]"

    def test_is_fitted_with_a_maximum_that_gives_back_the_script(self, growth_of: Callable[..., Any]) -> None:
        recompute, cached = growth_of(self.LENGTHS)["growth"]["laws"]
        assert ("max", "sum") == (recompute["form"], cached["form"])
        assert holds(recompute["launch_s"], 0.012)
        assert holds(recompute["per_token_s"], 1e-5)
        assert ("linear", "constant") == (recompute["order"], cached["order"])

    def test_breaks_even_where_its_computing_outgrows_the_launches(self, growth_of: Callable[..., Any]) -> None:
        (found,) = growth_of(self.LENGTHS)["growth"]["break_evens"]
        assert found["context_length"] == pytest.approx(1200, rel=0.02)
        assert found["ci_low"] is None  # below, the two modes take the same time
        assert 1200 < found["ci_high"] < 1300

    def test_of_which_one_length_lies_above_the_knee_tells_no_square(self, growth_of: Callable[..., Any]) -> None:
        run = growth_of("scaling.lengths=[64,128,256,512,1024,2048]")
        law = run["growth"]["laws"][0]
        assert holds(law["per_token_s"], 1e-5)
        assert law["per_token2_s"]["value"] is None
        assert "knee" in run["null_reasons"]["/growth/laws/0/per_token2_s/value"]


class TestASumOfTerms:
    def test_stays_a_sum_with_the_script_within_its_intervals(self, growth_of: Callable[..., Any]) -> None:
        run = growth_of("model.launch_s=0", "model.nocache_step_s=0.002", "model.nocache_per_token2_s=1e-9")
        law = run["growth"]["laws"][0]
        assert law["form"] == "sum"
        assert holds(law["launch_s"], 0.002)
        assert holds(law["per_token_s"], 1e-5)
        assert holds(law["per_token2_s"], 1e-9)

    def test_of_two_equal_arms_breaks_even_nowhere(self, growth_of: Callable[..., Any]) -> None:
        (found,) = growth_of("model.nocache_per_token_s=0")["growth"]["break_evens"]
        assert found["context_length"] is None
        assert "not clearly faster or slower" in found["detail"]
