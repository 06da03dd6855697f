"""What a machine can do at most, as it was measured once: kept on disk under what it depends on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from kvbench.errors import RecordError
from kvbench.records.evidence import HostCheck
from kvbench.records.part import Part, figure

# What the figures depend on. On a GPU the host's threads and cores do not matter.
ON_EVERY_DEVICE = ("device_name", "torch", "cuda", "driver", "power_limit_w")
ON_THE_CPU = ("threads", "usable_cores")
REMEDY = "set XDG_CACHE_HOME to a folder that can be written"
NO_CEILINGS = (
    "the ceilings of this machine are not measured: python -m kvbench doctor --ceilings (with --threads or --device"
    " where the run sets them)"
)


class ReadRate(Part):
    """Bytes read a second from a working set of this size: caches make small sets faster."""

    set_bytes: int = figure("working set", "bytes", "none", "Size of what is read.")
    bytes_per_s: float = figure("read rate", "bytes/s", "higher", "Bytes read a second.", gt=0)


class MatrixRate(Part):
    """FLOPs a second of a product of `rows` rows with a square matrix of `width`."""

    dtype: str
    rows: int = figure("rows", "count", "none", "Of the left matrix.")
    width: int = figure("width", "count", "none", "Of the square matrix.")
    flops_per_s: float = figure("FLOP rate", "FLOP/s", "higher", "FLOPs of the product a second.", gt=0)


class Ceilings(Part):
    """One machine's limits. `launch_s` is the time of submitting one small operation, Python included.

    `host` is what every run measures of its host, measured with these limits: how fast the host usually is.
    """

    WHY_NULL = MappingProxyType({"host": "an earlier version measured these ceilings and not this"})

    fingerprint: str
    measured_at: str
    device_name: str
    read: tuple[ReadRate, ...]
    matrix: tuple[MatrixRate, ...]
    launch_s: float = figure("launch", "s", "lower", "Time of submitting one small operation, Python included.")
    host: HostCheck | None = None

    def bytes_per_s(self, working_set: int) -> float | None:
        """The highest rate at which so many bytes could be read; None when no set was measured.

        That of the largest set measured that is no larger, or of a larger one where that was read faster.
        """
        smaller = [rate.set_bytes for rate in self.read if rate.set_bytes <= working_set]
        least = max(smaller, default=0)
        return max((rate.bytes_per_s for rate in self.read if rate.set_bytes >= least), default=None)

    def flops_per_s(self, dtype: str) -> float | None:
        """The highest matrix rate in this type, over all shapes; None when it was not measured."""
        return max((rate.flops_per_s for rate in self.matrix if rate.dtype == dtype), default=None)


def fingerprint(environment: Mapping[str, Any]) -> str:
    """A digest of what ceilings depend on, from a record's environment."""
    on_cpu = str(environment.get("device", "cpu")).startswith("cpu")
    names = ON_EVERY_DEVICE + (ON_THE_CPU if on_cpu else ())
    facts = {name: environment.get(name) for name in names}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def ceilings_file(mark: str) -> Path:
    """Where the ceilings with this fingerprint are kept. Raises `RecordError` for a user without a home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(cache) if cache else Path.home() / ".cache"
    except RuntimeError as error:  # no HOME, and a number that no account has, as in containers
        raise RecordError(f"ceilings have no place to be kept ({error}); {REMEDY}") from error
    return folder / "kvbench" / f"ceilings-{mark}.json"


def load_ceilings(environment: Mapping[str, Any]) -> Ceilings | None:
    """The ceilings of this machine; None when they were not measured, cannot be read, or something differs now."""
    mark = fingerprint(environment)
    try:
        found = Ceilings.model_validate_json(ceilings_file(mark).read_bytes())
    except (OSError, RecordError, ValidationError):
        return None
    return found if found.fingerprint == mark else None


def keep_ceilings(ceilings: Ceilings) -> Path:
    """Write them to their place, in one step. Raises `RecordError` when that cannot be written."""
    path = ceilings_file(ceilings.fingerprint)
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(ceilings.model_dump_json(indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise RecordError(f"{path}: cannot be written ({error.strerror}); {REMEDY}") from error
    return path
