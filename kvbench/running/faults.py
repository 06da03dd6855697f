"""What can go wrong in a measurement, as a message that crosses the process boundary and becomes an error again."""

from __future__ import annotations

import errno
from dataclasses import dataclass

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
