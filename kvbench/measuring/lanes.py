"""The timed lanes, as observers of a decoder: where each measurement begins and ends is decided here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kvbench.measuring.clocks import Clock


@dataclass(frozen=True)
class Timing:
    """Seconds of one run: TTFT, the decode steps together, and (steps lane) each by itself."""

    ttft_s: float
    decode_s: float
    decode_device_s: float | None
    decode_enqueue_s: float
    step_s: tuple[float, ...] | None


class Stopwatch:
    """Times one run. Call `start`, let the decoder run with this as its observer, call `finish`.

    TTFT runs from `start` to the first token available on the device. Decoding is a region of its own after it, with
    no synchronisation inside: `per_step` adds one mark per token, resolved after the end.
    """

    def __init__(self, clock: Clock, *, per_step: bool) -> None:
        self._clock = clock
        self._per_step = per_step
        self._marks: list[Any] = []

    def start(self) -> None:
        """Begin the prefill's region on an idle device."""
        self._clock.synchronise()
        self._started_ns = self._clock.now_ns()

    def on_token(self, index: int, token_ids: Any) -> None:  # noqa: ARG002 - never read: that would synchronise
        """The first token ends the prefill's region and begins the decode region."""
        if index == 0:
            self._clock.synchronise()
            self._first_token_ns = self._clock.now_ns()
            self._marks.append(self._clock.mark())
        elif self._per_step:
            self._marks.append(self._clock.mark())

    def finish(self) -> Timing:
        """End the decode region and resolve what was marked."""
        enqueued_ns = self._clock.now_ns()
        end = self._clock.mark()
        self._clock.synchronise()
        ended_ns = self._clock.now_ns()
        clock, marks = self._clock, self._marks
        steps = tuple(clock.between_s(a, b) for a, b in pairwise(marks)) if self._per_step else None
        return Timing(
            ttft_s=(self._first_token_ns - self._started_ns) * 1e-9,
            decode_s=(ended_ns - self._first_token_ns) * 1e-9,
            decode_device_s=clock.between_s(marks[0], end) if clock.has_device_timeline else None,
            decode_enqueue_s=(enqueued_ns - self._first_token_ns) * 1e-9,
            step_s=steps,
        )
