"""Ctrl-C is held back where it would do harm, and stays ignored where it was ignored."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from kvbench.running.faults import uninterrupted


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


def test_an_interrupt_comes_at_the_end_of_the_block_unless_it_is_ignored(handler: object) -> None:
    assert (handler is not signal.SIG_IGN) == interrupted_inside()
    assert handler == signal.getsignal(signal.SIGINT)
