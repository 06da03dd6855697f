"""torch's profiler on a GPU, and getting rid of what it leaves behind.

A profile attaches CUPTI to the driver, and CUPTI stays when the profile ends: every later launch of the process is
slower, which made the next point of a sweep 20 to 60 % slower. Kineto detaches it when TEARDOWN_CUPTI is 1 at the end
of a profile. It reads the variable each time, so that setting it here reaches a process that loaded torch long ago. The
detaching happens later, in another thread and at the next call of the driver: a profile that has begun by then
loses its events. So profiles of one run end with the variable at 0, and `remove_hooks` makes one more, an empty one,
whose end detaches for all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from kvbench.measuring.probes import launch_rounds_s
from kvbench.text import format_value

TEARDOWN = "TEARDOWN_CUPTI"
NO_LAZY_START = "DISABLE_CUPTI_LAZY_REINIT"  # with it kineto attaches CUPTI again as soon as it is detached
CALLS, BETWEEN_S = 20, 0.01  # of the driver, each a chance for kineto to detach
TRIES = 5
# Times as long as before the first profile, of the fastest round each: something is still attached. A host that
# became slower for as long as all tries last looks the same, which costs a new worker and no wrong figure.
SLOWER = 1.15

_launch_before_s: dict[torch.device, float] = {}  # by device, since profiles may have left hooks


def device_profile(device: torch.device) -> Any:
    """A profile of a device's kernels, not yet begun; `remove_hooks` must follow before anything else is timed."""
    if device not in _launch_before_s:
        _launch_before_s[device] = min(launch_rounds_s(device))
    return _Profile(activities=[ProfilerActivity.CUDA], acc_events=True)


class _Profile(profile):
    """Ends without detaching, whatever kineto's own default is: the next profile may begin at once."""

    def stop(self) -> None:
        with _set(TEARDOWN, "0"):
            super().stop()


def remove_hooks() -> str | None:
    """Detach what profiles have left behind in this process; what shows that something stays, if it does."""
    if not _launch_before_s:
        return None
    device, before_s = _launch_before_s.popitem()  # CUPTI is detached from all of them at once
    _launch_before_s.clear()
    now_s = before_s
    for _ in range(TRIES):
        _detach(device)
        now_s = min(launch_rounds_s(device))
        if now_s <= SLOWER * before_s:
            return None
    return (
        f"launching a small operation takes {format_value(now_s, 's')} since torch's profiler ran and took"
        f" {format_value(before_s, 's')} before: its hooks stay, or the host has become slower"
    )


def _detach(device: torch.device) -> None:
    last = profile(activities=[ProfilerActivity.CUDA], acc_events=True)
    last.start()  # without CUDA 12.6 torch itself sets the variables here, so that ours come after it
    _call_driver(device)
    with _set(TEARDOWN, "1"), _set(NO_LAZY_START, None):
        last.stop()
        for _ in range(CALLS):  # the thread that detaches reads the variables too
            time.sleep(BETWEEN_S)
            _call_driver(device)


def _call_driver(device: torch.device) -> None:
    torch.zeros(8, device=device).add_(1.0)
    torch.cuda.synchronize(device)


@contextmanager
def _set(name: str, value: str | None) -> Iterator[None]:
    """An environment variable for a while; None: not set."""
    before = os.environ.pop(name, None)
    try:
        if value is not None:
            os.environ[name] = value
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
