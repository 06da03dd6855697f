"""What ends a measurement early: errors, as messages between processes, and Ctrl-C, held back where it does harm."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kvbench import errors
from kvbench.errors import KvbenchError, OutOfMemory, RunFailed
from kvbench.library_versions import untested

# Error classes that the worker may report by name. What is not here arrives as RunFailed.
BY_NAME: dict[str, type[KvbenchError]] = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, KvbenchError)
}

# What allocators say where torch raises a plain RuntimeError.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is torch's or Python's way of saying that memory ran out."""
    # torch.OutOfMemoryError by name: this module is imported where torch is not.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


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
