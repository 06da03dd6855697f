"""What a run answers first: one place decides, and the terminal, the page and the exports show it.

The question follows the kind of run: how much fits, from which length on the cache wins, how soon a turn of a
conversation is answered, or else how much faster one arm decodes than another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kvbench.arm import arm_names
from kvbench.records.arm_figures import Turn
from kvbench.records.run_record import ArmRecord, RunRecord
from kvbench.records.scaling import BreakEven
from kvbench.report.formatting import format_estimate, format_level
from kvbench.report.lengths import frontier_sentences, growth_sentences
from kvbench.report.metrics import BY_KEY
from kvbench.report.verdicts import pairs
from kvbench.text import UNKNOWN, format_value, printable

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
