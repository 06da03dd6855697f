"""Ctrl-C, held back for as long as it would do harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end of the block, and a process that is started inside does not get it.

    The handler keeps it from this process, whichever of its threads the system picks; a child inherits the mask.
    A process that was started with SIGINT ignored, as `command &` in a script and `nohup` do, stays that way.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield  # Ctrl-C is raised in the main thread only
        return
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    mask = _block()
    try:
        yield
    finally:
        _restore(mask)
        signal.signal(signal.SIGINT, handler)
    if held:
        raise KeyboardInterrupt


def ignore_interrupts() -> None:
    """For the worker: Ctrl-C is its parent's to handle, also one that was held back while it started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _block() -> Any:
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _restore(mask: Any) -> None:
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
