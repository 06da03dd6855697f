"""What compiling and capturing cost at the first visit, in words."""

from __future__ import annotations

from collections.abc import Iterator

from kvbench.arm import arm_names
from kvbench.capabilities import ENGINES
from kvbench.records.run_record import RunRecord
from kvbench.report.formatting import format_value


def preparations(record: RunRecord) -> Iterator[str]:
    """A sentence for every arm whose engine prepared something: `cached (compiled): compiling took 12.3 s, once`."""
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        if arm.cold.compile_s:
            word = ENGINES[arm.engine].preparation if arm.engine in ENGINES else "preparing"
            took = format_value(arm.cold.compile_s, "s")
            yield f"{name}: {word} took {took}, once for each shape, within the first visit."
