"""What an arm is called wherever a person reads about it."""

from __future__ import annotations

from collections import Counter

from kvbench.capabilities import unusual
from kvbench.printable import printable
from kvbench.records.run_record import ArmRecord, RunRecord


def arm_name(arm: ArmRecord) -> str:
    """The mode, and in brackets what sets it apart: `nocache`, `cached (dynamic)`, `cached (static, compiled)`.

    What everybody has is not worth a word; see `capabilities.unusual`.
    """
    details = unusual(arm).values()
    return printable(f"{arm.mode} ({', '.join(details)})" if details else arm.mode)


def arm_names(record: RunRecord) -> tuple[str, ...]:
    """One name per arm, told apart by a number where two arms are the same (an A/A run)."""
    names = [arm_name(arm) for arm in record.arms]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    seen: Counter[str] = Counter()
    told_apart = []
    for name in names:
        seen[name] += 1
        told_apart.append(f"{name} #{seen[name]}" if name in repeated else name)
    return tuple(told_apart)
