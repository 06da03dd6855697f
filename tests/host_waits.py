"""What a profiler's events say about a host that waits for its GPU. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

FIRST, LAST = "kvbench first token", "kvbench last token"  # names of the ranges between which nobody may wait
WAITING_CALLS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
TO_HOST = "Memcpy DtoH"  # what the device does for any copy to the host, synchronous or not


class TimeRange(Protocol):
    """Microseconds."""

    start: float
    end: float


class Event(Protocol):
    """As `torch.autograd.profiler_util.FunctionEvent` has them."""

    name: str
    time_range: TimeRange


def host_waits(events: Iterable[Event]) -> list[str]:
    """Names of the calls that wait between the ranges `FIRST` and `LAST`, and of all copies to the host, in order.

    The profiler itself waits for the device when it starts and stops, which is outside of them. The device makes a copy
    later than the host asks for it, so that copies count wherever they are. Raises `AssertionError` without the ranges.
    """
    found = sorted(events, key=lambda event: event.time_range.start)
    begin = next((event.time_range.end for event in found if event.name == FIRST), None)
    end = next((event.time_range.start for event in found if event.name == LAST), None)
    if begin is None or end is None:
        raise AssertionError("the profiler saw no first and last token")
    return [
        event.name
        for event in found
        if event.name.startswith(TO_HOST) or (_waits(event.name) and begin <= event.time_range.start <= end)
    ]


def _waits(name: str) -> bool:
    """A call's name, perhaps with the version that CUDA puts behind it (cudaMemcpy_v3020, not cudaMemcpyAsync)."""
    return name.partition("_v")[0] in WAITING_CALLS
