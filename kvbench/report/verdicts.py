"""What a run says, in words: its verdict, a statement per pair of arms, and what it answers first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from kvbench.arm import arm_names
from kvbench.records.arm_figures import Turn
from kvbench.records.part import Speedup
from kvbench.records.run_record import ArmRecord, Comparison, RunRecord
from kvbench.records.scaling import BreakEven
from kvbench.report.lengths import frontier_sentences, growth_sentences
from kvbench.report.metrics import BY_KEY
from kvbench.report.names import format_estimate, format_level, null_reason
from kvbench.text import UNKNOWN, format_value, printable

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


# What a run answers first: one place decides, and the terminal, the page and the exports show it.
# The question follows the kind of run: how much fits, from which length on the cache wins, how soon a turn of a
# conversation is answered, or else how much faster one arm decodes than another.


Kind = Literal["sizes", "break-even", "turns", "speed-up", "one arm"]


@dataclass(frozen=True)
class Headline:
    """A sentence, and the figure in it that may stand in large letters, with its interval; both may be empty."""

    sentence: str
    figure: str = ""
    interval: str = ""


def run_kind(record: RunRecord) -> Kind:
    """What the run was made to find out."""
    if record.frontier is not None:
        return "sizes"
    if record.growth is not None:
        return "break-even"
    if any(arm.mode == "resumed" and arm.turns for arm in record.arms):
        return "turns"
    return "speed-up" if record.comparisons else "one arm"


def headlines(record: RunRecord) -> tuple[Headline, ...]:
    """The answers of a run, the first one first; none for a run that is not VALID, whose figures are not results."""
    return tuple(HEADLINES[run_kind(record)](record)) if record.valid else ()


def _sizes(record: RunRecord) -> Iterator[Headline]:
    yield from map(Headline, frontier_sentences(record))


def _break_even(record: RunRecord) -> Iterator[Headline]:
    found = record.growth.break_evens if record.growth else ()
    for each in found:
        detail = printable(each.detail)
        yield Headline(f"Break-even: {detail}.", *_length(each))
    if not found:
        yield Headline(growth_sentences(record)[0])


def _length(found: BreakEven) -> tuple[str, str]:
    if found.context_length is None:
        return "", ""
    low, high = found.ci_low, found.ci_high
    ends = "" if low is None or high is None else f"{format_level(found.level)} interval {low:,.0f} to {high:,.0f}"
    return f"{found.context_length:,.0f} tokens", ends


def _turns(record: RunRecord) -> Iterator[Headline]:
    """The first token after each turn, in every arm that the turns were told of."""
    told = [(name, arm) for name, arm in zip(arm_names(record.arms), record.arms, strict=True) if arm.turns]
    for number, turns in enumerate(zip(*(arm.turns for _, arm in told), strict=True)):
        times = " and ".join(f"{_first_token(turn)} with {name}" for (name, _), turn in zip(told, turns, strict=True))
        at = f"{turns[0].context_length:,} tokens of context"
        yield Headline(f"Turn {number + 2}, at {at}: the first token takes {times}.", *_turn_figure(told, turns))


def _first_token(turn: Turn) -> str:
    return format_estimate(turn.ttft_s, "s")


def _turn_figure(told: list[tuple[str, ArmRecord]], turns: tuple[Turn, ...]) -> tuple[str, str]:
    """Of the arm that keeps its cache over the turns."""
    kept = next(turn for (_, arm), turn in zip(told, turns, strict=True) if arm.mode == "resumed")
    figure, _, interval = _first_token(kept).partition(" [")
    return ("", "") if figure == UNKNOWN else (figure, f"[{interval}" if interval else "")


def _speedups(record: RunRecord) -> Iterator[Headline]:
    for pair in pairs(record):
        if pair.not_a_result is None:
            figure, _, interval = pair.speedup.partition(" ")
            yield Headline(f"{pair.verdict}: {pair.sentence}", figure, interval)


def _one_arm(record: RunRecord) -> Iterator[Headline]:
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        rate = BY_KEY["decode_tokens_per_s"].show(arm)
        figure, _, interval = rate.partition(" [")
        measured = "" if rate == UNKNOWN else f"{rate}, {format_value(arm.itl_s.value, 's')} per step; "
        said = f"One arm, {name}: {measured}there is nothing to compare it with."
        yield Headline(said, figure if measured else "", f"[{interval}" if interval else "")


# Every kind of run and what it says first. One more is a row here.
HEADLINES = {
    "sizes": _sizes,
    "break-even": _break_even,
    "turns": _turns,
    "speed-up": _speedups,
    "one arm": _one_arm,
}
