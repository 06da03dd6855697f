"""Two arms of a record as findings look at them, and how a finding cites the figures that its sentence rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from kvbench.arm import in_words
from kvbench.records.evidence import Sentence
from kvbench.records.run_record import ArmRecord, Comparison, RunRecord
from kvbench.text import Unit, fixed, format_value

CLOSE = 0.05  # relative: two figures that one number stands for in a sentence
Shown = Unit | Callable[[Any], object]


@dataclass
class Citing:
    """A sentence while it is written: whatever figure of the record it reads becomes its evidence, in that order.

    There is no other way to evidence, so that text and evidence cannot part.
    """

    record: RunRecord
    pointers: list[str] = field(default_factory=list)

    def __call__(self, pointer: str, shown: Shown) -> str:
        """The text of the figure at a pointer, in a unit or by a function of its own."""
        value = self.value(pointer)
        return str(shown(value)) if callable(shown) else format_value(value, shown)

    def value(self, pointer: str) -> Any:
        """The figure at a pointer, for a text that is computed from it."""
        self.pointers.append(pointer)
        found: Any = self.record
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, tuple):
                found = found[int(key)]
            else:
                found = found[key] if isinstance(found, dict) else getattr(found, key)
        return found

    def rest_on(self, *pointers: str) -> None:
        """Evidence that decides what is said without being told."""
        for pointer in pointers:
            self.value(pointer)

    def sentence(self, code: str, text: str) -> Sentence:
        """The sentence with what was cited."""
        return Sentence(code=code, text=text, evidence=tuple(self.pointers))


@dataclass(frozen=True)
class Pair:
    """One comparison of a record, with names for its arms and pointers to its figures."""

    record: RunRecord
    index: int

    @property
    def comparison(self) -> Comparison:
        """The comparison itself."""
        return self.record.comparisons[self.index]

    @property
    def arms(self) -> tuple[int, int]:
        """Indices of the baseline and of the candidate."""
        return self.comparison.baseline_arm, self.comparison.candidate_arm

    @property
    def baseline(self) -> ArmRecord:
        """The arm that the other one is held against."""
        return self.record.arms[self.comparison.baseline_arm]

    @property
    def candidate(self) -> ArmRecord:
        """The arm that is looked at."""
        return self.record.arms[self.comparison.candidate_arm]

    @property
    def adds_a_cache(self) -> bool:
        """Whether the candidate keeps a past and the baseline none: what a speed-up is then about."""
        return not self.baseline.keeps_past and self.candidate.keeps_past

    @property
    def mean_context(self) -> float | None:
        """Tokens visible to the middle step of the run, averaged over its prompts."""
        workload = self.record.workload
        if workload is None or not workload.prompt_tokens:
            return None
        return fmean(workload.prompt_tokens) + workload.new_tokens / 2

    def name(self, arm: int) -> str:
        """What a sentence calls an arm: its mode, and what sets it apart from the other one."""
        baseline, candidate = _name(self.baseline, self.candidate), _name(self.candidate, self.baseline)
        is_baseline = arm == self.comparison.baseline_arm
        if baseline == candidate:
            return f"the {'first' if is_baseline else 'second'} {baseline}"
        return baseline if is_baseline else candidate

    def at(self, path: str) -> str:
        """The pointer to a part of the comparison."""
        return f"/comparisons/{self.index}/{path}"

    def citing(self) -> Citing:
        """A new sentence about the pair."""
        return Citing(self.record)


Finding = Callable[[Pair], Sentence | None]


def differing(arm: ArmRecord, other: ArmRecord) -> list[str]:
    """The parts in which two arms are not the same, in the order of their names."""
    mine, theirs = arm.parts, other.parts
    return [part for part in mine if mine[part] != theirs[part]]


def of_arm(arm: int, path: str) -> str:
    """The pointer to a part of an arm."""
    return f"/arms/{arm}/{path}"


def close(first: float, second: float) -> bool:
    """Whether one number can stand for both."""
    return abs(first - second) <= CLOSE * max(abs(first), abs(second))


def both(first: float, second: float, unit: Unit) -> str:
    """Two figures of the baseline and of the candidate: one number where that does."""
    if close(first, second):
        return format_value((first + second) / 2, unit)
    return f"{format_value(first, unit)} and {format_value(second, unit)}"


def percent(share: float) -> str:
    """A share in whole percent, below ten percent with one decimal."""
    return f"{share * 100:.0f} %" if share >= 0.0995 else f"{share * 100:.1f} %"


def two_digits(count: float) -> str:
    """A count that is known about so well."""
    return fixed(float(f"{count:.1e}"), 0)


def _name(arm: ArmRecord, other: ArmRecord) -> str:
    """The mode with its habit, and the parts in which the two differ; of a cache only where both keep one."""
    words = arm.unusual
    details = []
    for part in differing(arm, other):
        if part in ("engine", "attention") or (part == "cache" and arm.keeps_past and other.keeps_past):
            details.append(in_words(part, getattr(arm, part)))
        elif part not in ("mode", "cache", "habit") and part in words:
            details.append(words[part])
    mode = arm.mode if arm.habit == "none" else f"{arm.mode} with {arm.habit}"
    return f"{mode} ({', '.join(details)})" if details else mode
