"""When a rebuilt cache has paid for itself."""

from __future__ import annotations

import pytest

from kvbench.analysis.arm_record import paid_back_after


@pytest.mark.parametrize(
    ("rebuild_s", "cached_step_s", "nocache_step_s", "expected"),
    [
        (10.0, 1.0, 10.0, 1),  # rebuilding is one step without a cache: nothing to pay back
        (9.0, 1.0, 10.0, 1),
        (11.0, 1.0, 10.0, 2),  # 11 + 1 <= 2 × 10
        (19.0, 1.0, 10.0, 2),  # 19 + 1 <= 2 × 10, exactly
        (19.5, 1.0, 10.0, 3),
        (11.0, 10.0, 10.0, None),  # a cached step saves nothing
        (11.0, 12.0, 10.0, None),
    ],
)
def test_counts_the_tokens_until_going_on_without_a_cache_would_have_cost_more(
    rebuild_s: float, cached_step_s: float, nocache_step_s: float, expected: int | None
) -> None:
    assert expected == paid_back_after(rebuild_s, cached_step_s, nocache_step_s)
    if expected is not None and expected > 1:
        assert rebuild_s + (expected - 1) * cached_step_s <= expected * nocache_step_s
        assert rebuild_s + (expected - 2) * cached_step_s > (expected - 1) * nocache_step_s
