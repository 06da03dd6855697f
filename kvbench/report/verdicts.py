"""What a run says, in words: one verdict for the run, one statement per pair of arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvbench.arm import arm_names
from kvbench.records.part import Speedup
from kvbench.records.run_record import Comparison, RunRecord
from kvbench.report.formatting import format_estimate, format_level, null_reason
from kvbench.text import UNKNOWN, printable

VALID = "VALID"
MOST_SENTENCES = 3  # pairs of arms; more are easier to read as rows of a table

MEANING = {
    "FASTER": "the whole interval lies above the band that counts as no change",
    "SLOWER": "the whole interval lies below the band that counts as no change",
    "SAME": "the whole interval lies inside the band that counts as no change",
    "AMBIGUOUS": "the interval reaches across an edge of the band: more blocks would tell",
    "INVALID": "a check failed",
}


@dataclass(frozen=True)
class Pair:
    """A candidate arm against the baseline. With `not_a_result` set, its figures must not be headlined."""

    candidate: str
    baseline: str
    speedup: str
    interval: str  # "95 % interval over 8 blocks", or why there is none
    end_to_end: str
    agreement: str
    agreement_detail: str
    verdict: str
    not_a_result: str | None
    diagnosis: tuple[str, ...]  # why it is what it is, a sentence each

    @property
    def sentence(self) -> str:
        """The speed-up and how sure it is."""
        return f"{self.candidate} decodes {self.speedup} as fast as {self.baseline} ({self.interval})"

    @property
    def measured(self) -> str:
        """The figures of a pair that is not a result, worded so that they cannot be quoted as one."""
        arms = f"{self.candidate} ÷ {self.baseline}"
        if UNKNOWN == self.speedup == self.end_to_end:
            return f"nothing was measured of {arms}"
        return f"measured all the same, {arms}: decoding {self.speedup}, end to end {self.end_to_end}"

    @property
    def meaning(self) -> str:
        """What the verdict's word stands for."""
        return MEANING[self.verdict]


def run_word(record: RunRecord) -> str:
    """VALID, INVALID, or how the run ended instead: FAILED, OOM, INTERRUPTED, …"""
    return VALID if record.valid else record.status.upper()


def status_reason(record: RunRecord) -> str:
    """Why the run ended as it did, in one sentence; empty when there is nothing to add."""
    return printable(record.status_reason or "")


def pairs(record: RunRecord) -> tuple[Pair, ...]:
    """Every comparison of the run."""
    names = arm_names(record.arms)
    return tuple(_pair(record, index, names) for index in range(len(record.comparisons)))


def as_table(shown: Sequence[Pair]) -> bool:
    """Whether these pairs are shown as rows of a table instead of sentences; never when one is not a result."""
    return len(shown) > MOST_SENTENCES and all(pair.not_a_result is None for pair in shown)


def _pair(record: RunRecord, index: int, names: tuple[str, ...]) -> Pair:
    comparison = record.comparisons[index]
    pointer = f"/comparisons/{index}"
    return Pair(
        candidate=names[comparison.candidate_arm],
        baseline=names[comparison.baseline_arm],
        speedup=format_estimate(comparison.speedup, "times"),
        interval=_interval(record, comparison.speedup, f"{pointer}/speedup"),
        end_to_end=format_estimate(comparison.end_to_end_speedup, "times"),
        agreement=comparison.agreement.verdict or comparison.agreement.differs_by or UNKNOWN,
        agreement_detail=printable(comparison.agreement.detail),
        verdict=comparison.verdict,
        not_a_result=_not_a_result(record, comparison),
        diagnosis=tuple(printable(sentence.text) for sentence in comparison.diagnosis),
    )


def _interval(record: RunRecord, speedup: Speedup, pointer: str) -> str:
    blocks = f"{speedup.n_blocks} block{'' if speedup.n_blocks == 1 else 's'}"
    if speedup.ci_low is None or speedup.ci_high is None:
        missing = "value" if speedup.value is None else "ci_low"
        return f"no interval over {blocks}: {null_reason(record, f'{pointer}/{missing}')}"
    return f"{format_level(speedup.level)} interval over {blocks}"


def is_result(record: RunRecord, comparison: Comparison) -> bool:
    """Whether a pair's figures may be shown as a result."""
    return record.valid and comparison.verdict != "INVALID"


def extra_memory_bytes(record: RunRecord, comparison: Comparison) -> int | None:
    """How much higher the candidate's peak of memory is; None unless both peaks are known.

    Records of earlier versions hold the difference of the caches where a peak is not known.
    """
    arms = (record.arms[comparison.baseline_arm], record.arms[comparison.candidate_arm])
    return None if any(arm.memory.peak_allocated_bytes is None for arm in arms) else comparison.extra_memory_bytes


def _not_a_result(record: RunRecord, comparison: Comparison) -> str | None:
    """Why the pair's figures are not a result; None when they are one."""
    if is_result(record, comparison):
        return None
    failed = [f"{check.name}: {check.detail}" for check in record.checks if not check.passed]
    reasons = list(comparison.reasons) or failed or [record.status_reason or ""]
    if any(reasons):
        return printable("; ".join(filter(None, reasons)))
    return f"the run is {run_word(record)}" if not record.valid else "too few blocks for a verdict"
