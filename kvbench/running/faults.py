"""What ends a measurement early: errors, as messages between processes, and signals, held back where they do harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from kvbench import errors
from kvbench.errors import KvbenchError, OutOfMemory, RunFailed, is_out_of_memory
from kvbench.library_versions import untested

# Error classes that the worker may report by name. What is not here arrives as RunFailed.
BY_NAME: dict[str, type[KvbenchError]] = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, KvbenchError)
}


@dataclass(frozen=True)
class Fault:
    """An exception as plain data: its class in our tree, and one line."""

    kind: str
    message: str

    def error(self) -> KvbenchError:
        """The exception again."""
        return BY_NAME.get(self.kind, RunFailed)(self.message)


def fault_of(error: BaseException, traceback: str = "traceback in stdout.log") -> Fault:
    """Any exception of a measurement, mapped once: torch's out-of-memory has a class of its own in the tree.

    `traceback` says where the traceback of one that is not known is found.
    """
    if isinstance(error, KvbenchError):
        return Fault(type(error).__name__, str(error))
    if is_out_of_memory(error):
        return Fault(OutOfMemory.__name__, "the device ran out of memory: " + _first_line(error))
    version = untested()
    where = f"{traceback}; {version}" if version else traceback
    return Fault(RunFailed.__name__, f"{type(error).__name__}: {_first_line(error)} ({where})")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


# Signals that ask a program to end. Ctrl-C is one; the others come from `kill`, `docker stop`, a batch system that
# has given its time, and a terminal that is closed.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asks this program to end; `str()` is its name."""


def cause_of(error: KeyboardInterrupt) -> str:
    """What a person calls that which stopped a run."""
    return str(error) if isinstance(error, Stopped) else "Ctrl-C"


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end what runs inside as Ctrl-C does, with its record, instead of at once.

    Not where somebody handles them, or has them ignored, as `nohup` does.
    """
    numbers = STOPPING[1:] if threading.current_thread() is threading.main_thread() else ()
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(signal.Signals(number).name)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and its like wait until the end of the block, and a process that is started inside does not get them.

    The handlers keep them from this process, whichever of its threads the system picks; a child inherits the mask.
    A signal that this process has no handler for stays as it is: ignored, as `command &` in a script and `nohup` have
    it, or deadly.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only
        return
    handlers = {number: handler for number in STOPPING if callable(handler := signal.getsignal(number))}
    held: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _frame: held.append(number))
    mask = _block(handlers)
    try:
        yield
    finally:
        _restore(mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held:
        handlers[held[0]](held[0], None)


def ignore_interrupts() -> None:
    """For the worker: how a run is stopped is its parent's to say, also by a signal that was held back meanwhile."""
    for number in STOPPING:
        # What the worker starts would inherit an ignored signal, but no handler.
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else _leave)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Nothing is done."""


def _block(signals: Iterable[int]) -> Any:
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def _restore(mask: Any) -> None:
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
