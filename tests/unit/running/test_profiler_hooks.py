"""The profiler's hooks are taken out of the process by one last profile, and what shows that they stay is told."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from kvbench.running import worker_state
from kvbench.running.worker_state import NO_LAZY_START, TEARDOWN, device_profile, remove_hooks

DEVICE = torch.device("cuda", 0)
CLEAN_S, HOOKED_S = 4e-6, 6e-6


class Driver:
    """Stands for kineto and CUPTI: a profile attaches, and one that ends with the variable at 1 detaches later on."""

    def __init__(self, *, detaches: bool = True) -> None:
        self.detaches = detaches
        self.ended_with: list[str | None] = []
        self.is_attached = self.is_leaving = False

    def start(self, *_: object) -> None:
        assert not self.is_leaving, "this profile would lose its events"
        self.is_attached = True

    def stop(self, *_: object) -> None:
        self.ended_with.append(os.environ.get(TEARDOWN))
        self.is_leaving = self.detaches and self.ended_with[-1] == "1"

    def call(self, *_: object) -> None:
        if self.is_leaving and os.environ.get(NO_LAZY_START) is None:
            self.is_attached = self.is_leaving = False

    def launch_rounds_s(self, *_: object) -> list[float]:
        """Every second round, the host takes twice as long: the fastest one counts."""
        fastest_s = HOOKED_S if self.is_attached else CLEAN_S
        return [2 * fastest_s, fastest_s]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver()
    monkeypatch.setattr(worker_state.profile, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(worker_state.profile, "start", made.start)
    monkeypatch.setattr(worker_state.profile, "stop", made.stop)
    monkeypatch.setattr(worker_state, "_call_driver", made.call)
    monkeypatch.setattr(worker_state, "launch_rounds_s", made.launch_rounds_s)
    monkeypatch.setattr(worker_state, "BETWEEN_S", 0.0)
    yield made
    worker_state._launch_before_s.clear()


def profiled(times: int) -> None:
    for _ in range(times):
        profile = device_profile(DEVICE)
        profile.start()
        profile.stop()


def test_profiles_of_one_run_follow_each_other_and_the_last_one_detaches(driver: Driver) -> None:
    profiled(3)
    assert driver.is_attached
    assert remove_hooks() is None
    assert (["0", "0", "0", "1"], False) == (driver.ended_with, driver.is_attached)


def test_a_process_that_did_not_profile_is_left_alone(driver: Driver) -> None:
    assert remove_hooks() is None
    profiled(1)
    remove_hooks()
    remove_hooks()
    assert ["0", "1"] == driver.ended_with


@pytest.mark.parametrize("own", [None, "0", "1"])
def test_variables_are_what_they_were_afterwards(
    driver: Driver, own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (TEARDOWN, NO_LAZY_START):
        monkeypatch.delenv(name, raising=False)
        if own is not None:
            monkeypatch.setenv(name, own)  # as torch does for recorded graphs
    profiled(2)
    assert remove_hooks() is None
    assert ["0", "0", "1"] == driver.ended_with
    assert (own, own) == (os.environ.get(TEARDOWN), os.environ.get(NO_LAZY_START))


def test_hooks_that_stay_are_told_by_what_they_cost(driver: Driver) -> None:
    driver.detaches = False
    profiled(1)
    assert (
        "launching a small operation takes 6.00 µs since torch's profiler ran and took 4.00 µs before: its hooks"
        " stay, or the host has become slower"
    ) == remove_hooks()
    assert ["0", *["1"] * worker_state.TRIES] == driver.ended_with
