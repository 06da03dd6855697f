"""A host that changed its speed is told whichever way it went."""

from __future__ import annotations

import pytest

from kvbench.analysis.host_speed import HostChange


@pytest.mark.parametrize(("ratio", "large"), [(1.19, False), (1.21, True), (1 / 1.19, False), (1 / 1.21, True)])
def test_slower_and_faster_by_the_same_factor_are_alike(ratio: float, large: bool) -> None:
    assert large == HostChange("launch_s", 1e-6, ratio * 1e-6, ("/a", "/b")).is_large
