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
from kvbench.report.lengths import crossing, frontier_sentences, growth_sentences
from kvbench.report.metrics import BY_KEY
from kvbench.report.names import format_estimate, format_level, null_reason
from kvbench.report.sentences import counted, diagnosed, own_words, say, word
from kvbench.text import UNKNOWN, format_value, printable

VALID = "VALID"
MOST_SENTENCES = 3  # pairs of arms; more are easier to read as rows of a table


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
    diagnosis: tuple[str, ...]  # why it is what it is, a sentence each, explained in other languages than the record's

    @property
    def sentence(self) -> str:
        """The speed-up and how sure it is."""
        return say(
            "pair.decodes",
            candidate=self.candidate,
            speedup=self.speedup,
            baseline=self.baseline,
            interval=self.interval,
        )

    @property
    def why_not(self) -> str:
        """Why it is not a result, for readers of any language."""
        return own_words(self.not_a_result or "")

    @property
    def measured(self) -> str:
        """The figures of a pair that is not a result, worded so that they cannot be quoted as one."""
        arms = f"{self.candidate} ÷ {self.baseline}"
        if UNKNOWN == self.speedup == self.end_to_end:
            return say("pair.nothing-measured", arms=arms)
        return say("pair.measured", arms=arms, decoding=self.speedup, end_to_end=self.end_to_end)

    @property
    def meaning(self) -> str:
        """What the verdict's word stands for."""
        return say(f"meaning.{self.verdict}")


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
        diagnosis=tuple(diagnosed(sentence.code, printable(sentence.text)) for sentence in comparison.diagnosis),
    )


def _interval(record: RunRecord, speedup: Speedup, pointer: str) -> str:
    blocks = counted("blocks", speedup.n_blocks)
    if speedup.ci_low is None or speedup.ci_high is None:
        missing = "value" if speedup.value is None else "ci_low"
        return say("interval.none", blocks=blocks, reason=own_words(null_reason(record, f"{pointer}/{missing}")))
    return say("interval.over", level=format_level(speedup.level), blocks=blocks)


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
        yield Headline(say("headline.break-even", detail=crossing(record, each)), *_length(each))
    if not found:
        yield Headline(growth_sentences(record)[0])


def _length(found: BreakEven) -> tuple[str, str]:
    if found.context_length is None:
        return "", ""
    low, high = found.ci_low, found.ci_high
    level = format_level(found.level)
    known = low is not None and high is not None
    ends = say("interval.lengths", level=level, low=f"{low:,.0f}", high=f"{high:,.0f}") if known else ""
    return say("count.tokens", count=f"{found.context_length:,.0f}"), ends


def _turns(record: RunRecord) -> Iterator[Headline]:
    """The first token after each turn, in every arm that the turns were told of."""
    told = [(name, arm) for name, arm in zip(arm_names(record.arms), record.arms, strict=True) if arm.turns]
    for number, turns in enumerate(zip(*(arm.turns for _, arm in told), strict=True)):
        times = say("between.clauses").join(
            say("headline.turn.arm", figure=_first_token(turn), name=name)
            for (name, _), turn in zip(told, turns, strict=True)
        )
        context = f"{turns[0].context_length:,}"
        sentence = say("headline.turn", number=number + 2, context=context, times=times)
        yield Headline(sentence, *_turn_figure(told, turns))


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
            yield Headline(say("terminal.told", subject=word(pair.verdict), text=pair.sentence), figure, interval)


def _one_arm(record: RunRecord) -> Iterator[Headline]:
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        rate = BY_KEY["decode_tokens_per_s"].show(arm)
        figure, _, interval = rate.partition(" [")
        if rate == UNKNOWN:
            yield Headline(say("headline.one-arm.unknown", name=name))
            continue
        said = say("headline.one-arm", name=name, rate=rate, step=format_value(arm.itl_s.value, "s"))
        yield Headline(said, figure, f"[{interval}" if interval else "")


# Every kind of run and what it says first. One more is a row here.
HEADLINES = {
    "sizes": _sizes,
    "break-even": _break_even,
    "turns": _turns,
    "speed-up": _speedups,
    "one arm": _one_arm,
}
