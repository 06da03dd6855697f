"""The high-water mark of this process's resident memory, started anew where the system lets it."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc(5)


def reset_peak() -> None:
    """Give free memory back and start the high-water mark anew; outside of Linux it covers the whole process."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # else what an earlier pass left in the heap would count for this one
    with suppress(OSError):
        CLEAR_REFS.write_text(RESET_PEAK)


def peak_bytes() -> int:
    """The most resident memory since `reset_peak`, in bytes."""
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
