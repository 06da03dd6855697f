"""Ctrl-C is held back where it would do harm, and stays ignored where it was ignored."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from kvbench.running.faults import cause_of, stopped_by_signals, uninterrupted


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["handled", "ignored"])
def handler(request: pytest.FixtureRequest) -> Iterator[object]:
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def interrupted_inside() -> bool:
    """Whether a Ctrl-C inside the block comes out at its end."""
    went_on = False
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            went_on = True
    except KeyboardInterrupt:
        assert went_on
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_are_held_back_too_and_say_what_they_are(number: signal.Signals) -> None:
    went_on: list[bool] = []

    def stopped() -> None:
        with stopped_by_signals(), uninterrupted():
            signal.raise_signal(number)
            went_on.append(True)

    with pytest.raises(KeyboardInterrupt) as caught:
        stopped()
    assert ([True], number.name) == (went_on, cause_of(caught.value))
    assert signal.SIG_DFL == signal.getsignal(number)


def test_what_the_process_has_decided_of_a_signal_stays() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stopped_by_signals(), uninterrupted():
            signal.raise_signal(signal.SIGHUP)
            assert signal.SIG_IGN == signal.getsignal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_comes_at_the_end_of_the_block_unless_it_is_ignored(handler: object) -> None:
    assert (handler is not signal.SIG_IGN) == interrupted_inside()
    assert handler == signal.getsignal(signal.SIGINT)
