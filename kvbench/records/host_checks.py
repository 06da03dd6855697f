"""How fast the host was just before the blocks and just after them."""

from __future__ import annotations

from kvbench.records.meaning import figure
from kvbench.records.part import Part

FIGURES = {"launch_s": "small operation", "product_s": "small matrix product", "read_s": "read of 32 MiB"}


class HostCheck(Part):
    """Times of small pieces of work that every run and `doctor --ceilings` measure in the same way.

    `launch_s` is the host's time for one small operation: submitting it on a GPU, computing it on a CPU. A small matrix
    product and reading a few MiB of memory are timed on a CPU only.
    """

    launch_s: float | None = figure(
        "small operation", "s", "lower", "Time of submitting it on a GPU, of computing it on a CPU.", default=None
    )
    product_s: float | None = figure("small matrix product", "s", "lower", "Its time on a CPU.", default=None)
    read_s: float | None = figure("read of 32 MiB", "s", "lower", "Its time on a CPU.", default=None)


class HostChecks(Part):
    """The host before the first block and after the last one."""

    before: HostCheck | None = None
    after: HostCheck | None = None
