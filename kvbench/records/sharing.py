"""Who measures on which device of a host, as the runs of kvbench tell each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Holder:
    """A run that has a device to itself."""

    device: str  # "cuda:1", "cpu", or "host" for a run that has all of the host
    run: str  # its folder, or what else it is called by
    pid: int
    host: str
    since: str  # ISO 8601, UTC, to the microsecond
    until: str | None = None


@dataclass(frozen=True)
class Waiting:
    """A run does not begin yet; `holder` is None where whoever is in the way has not said who it is."""

    device: str
    holder: Holder | None


@dataclass(frozen=True)
class Sharing:
    """A run has its device after `waited_s` seconds, or, with `neighbours`, gives it back.

    They are the runs that measured meanwhile on other devices of the host. `unleased` is why the device could not be
    had for the run alone, where that is so.
    """

    waited_s: float
    neighbours: tuple[Holder, ...] | None
    unleased: str | None = None
