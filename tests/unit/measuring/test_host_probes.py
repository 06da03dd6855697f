"""The host's checks are medians of a few rounds of small work, the same for a run and for the kept limits."""

from __future__ import annotations

import pytest
import torch

from kvbench.measuring import probes
from kvbench.measuring.probes import LAUNCH_ROUNDS, LAUNCHES, PRODUCTS, ROUNDS, Extent, check_host, measure_ceilings
from kvbench.records.evidence import HOST_FIGURES, HostCheck

CPU = torch.device("cpu")


def test_all_of_them_are_timed_on_a_cpu() -> None:
    found = check_host(CPU).model_dump()
    assert set(HOST_FIGURES) == set(found)
    assert all(seconds > 0 for seconds in found.values())


def test_each_is_the_median_round_for_one_piece_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first round of each is for practice.
    durations = [9.0, *[4.0] * 9, *[1.0] * 6, *[99.0] * 6, *[9.0, 1.0, 2.0, 4.0, 5.0, 99.0] * 2]
    monkeypatch.setattr(probes, "BETWEEN_S", 0.0)
    readings = [reading for each in durations for reading in (0.0, each)]
    monkeypatch.setattr(probes.time, "perf_counter", lambda: readings.pop(0))
    assert (21, 5) == (LAUNCH_ROUNDS, ROUNDS)
    assert HostCheck(launch_s=4.0 / LAUNCHES, product_s=4.0 / PRODUCTS, read_s=4.0) == check_host(CPU)


def test_the_kept_limits_hold_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = HostCheck(launch_s=1e-6)
    monkeypatch.setattr("kvbench.measuring.probes.check_host", lambda _: checked)
    little = Extent(sets=(2**16,), shapes=((1, 64),), launches=20, round_s=1e-4)
    found = measure_ceilings(CPU, {"device": "cpu", "device_name": "Some CPU"}, 2**30, lambda _: None, little)
    assert checked == found.host
