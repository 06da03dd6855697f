"""Everything kvbench raises on purpose.

    KvbenchError                 exit code 1   the base; a message is one line that names the remedy
    ├── BadInput                 exit code 2   what was asked for cannot be measured; nothing was
    │   ├── ConfigError                        a key, its value, and the values allowed
    │   │   └── Mistyped                       a word that kvbench does not know; it stops a whole sweep
    │   ├── PromptError                        a prompt file or a prompt that does not fit the model
    │   ├── ModelUnavailable                   the hub, a folder or a library refuses the model
    │   ├── DeviceUnavailable                  the device asked for is not on this machine
    │   └── RecordError                        a run folder or record that cannot be read or written
    └── RunFailed                exit code 1   a measurement began and did not end; carries its status
        ├── Infeasible                         predicted not to fit, with the bytes
        ├── OutOfMemory                        the device ran out of memory
        ├── WorkerCrashed                      the worker process ended without an answer
        │   └── RankLost                       one of several processes lost the others
        └── TimedOut                           the run took longer than it was given

Third-party errors become one of these in one place each: Hydra's in `config.compose`, the hub's in
`models.hub` and `models.folder_faults`, torch's in `running.faults`.
"""

from __future__ import annotations

import errno

LONGEST_REASON = 200  # characters of another program's words within one of our lines
# What allocators say where torch raises a plain RuntimeError.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def reason_of(error: BaseException) -> str:
    """An error's own words on one line, cut to what a sentence can hold."""
    return " ".join(str(error).split())[:LONGEST_REASON]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is torch's or Python's way of saying that memory ran out."""
    # torch.OutOfMemoryError by name: this module is imported where torch is not.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


class KvbenchError(Exception):
    """Base of every error raised on purpose; `str()` is one line meant for the person at the terminal."""

    exit_code = 1


class BadInput(KvbenchError):
    """The request cannot be measured as it stands."""

    exit_code = 2


class ConfigError(BadInput):
    """A configuration key has a value that is not allowed, or is not a key."""


class Mistyped(ConfigError):
    """A key, an option or a value that no configuration could have, whatever its other keys are."""


class PromptError(BadInput):
    """A prompt file is unusable or a prompt does not fit the model."""


class ModelUnavailable(BadInput):
    """The model cannot be loaded for a reason that the user can mend."""


class DeviceUnavailable(BadInput):
    """The requested device is not available to torch on this machine."""


class RecordError(BadInput):
    """A run folder or record cannot be read or written."""


class RunFailed(KvbenchError):
    """A measurement started but could not be finished; `status` is the record's word for how it ended."""

    status = "failed"


class Infeasible(RunFailed):
    """The run is predicted not to fit into memory."""

    status = "infeasible"


class OutOfMemory(RunFailed):
    """The device ran out of memory."""

    status = "oom"


class TimedOut(RunFailed):
    """The run took longer than `measure.timeout_s`; its worker was killed."""

    status = "timeout"


class WorkerCrashed(RunFailed):
    """The worker process ended without an answer."""

    status = "crashed"


class RankLost(WorkerCrashed):
    """One of the processes that hold a model together lost the others, which may be what ended the run."""
