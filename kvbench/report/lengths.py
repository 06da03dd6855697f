"""What depends on the length, in rows and in sentences: which sizes fit, and how a step grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kvbench.arm import arm_names
from kvbench.capabilities import NO_CACHE
from kvbench.records.part import Estimate
from kvbench.records.run_record import RunRecord
from kvbench.records.scaling import BreakEven, DecodeCheck, FrontierEdge, Growth, Law
from kvbench.report.names import format_estimate
from kvbench.text import UNKNOWN, format_value, printable

# What fits, in rows and in sentences.


FRONTIER_TITLES = ("", "at", "predicted", "found", "error", "next that failed")
UNITS = {"context": "tokens of context", "batch": "sequences"}
OF_MEMORY = ("oom", "infeasible")
OUTCOMES = {"fits": "fits", "oom": "out of memory", "infeasible": "refused for its memory"}


@dataclass(frozen=True)
class EdgeRow:
    """One arm along one axis, as text, in the order of `FRONTIER_TITLES`."""

    arm: str
    held: str
    predicted: str
    found: str
    error: str
    above: str


def frontier_rows(record: RunRecord) -> tuple[EdgeRow, ...]:
    """One row per edge."""
    if record.frontier is None:
        return ()
    names = arm_names(record.arms)
    return tuple(
        EdgeRow(
            arm=f"{names[edge.arm]}, {edge.axis}",
            held=_held(edge),
            predicted=_count(edge.predicted),
            found=_count(edge.found),
            error=UNKNOWN if edge.error is None else f"{100 * edge.error:+.1f} %",
            above=_above(edge),
        )
        for edge in record.frontier.edges
    )


def frontier_sentences(record: RunRecord) -> tuple[str, ...]:
    """What each edge is, the first arm's beside every other one's where memory is what ended both."""
    told = []
    by_axis: dict[str, list[FrontierEdge]] = {}
    for edge in record.frontier.edges if record.frontier else ():
        by_axis.setdefault(edge.axis, []).append(edge)
    for first, *others in by_axis.values():
        pairs = [_pair(record, first, edge) for edge in others if _of_memory(first) and _of_memory(edge)]
        told += pairs or [_alone(record, first)]
        told += [_alone(record, edge) for edge in others if not (_of_memory(first) and _of_memory(edge))]
    return tuple(told)


def frontier_of(record: RunRecord, arm: int) -> str:
    """The edges of one arm; empty for a run that looked for none."""
    return " ".join(
        _alone(record, edge) for edge in (record.frontier.edges if record.frontier else ()) if edge.arm == arm
    )


def frontier_limit(record: RunRecord) -> str:
    """The memory that the search had."""
    limit = record.frontier.limit_bytes if record.frontier else None
    return "without a limit of memory" if limit is None else f"within {format_value(limit, 'bytes')} of memory"


def try_line(arm: str, axis: str, size: int, outcome: str, peak_bytes: int | None) -> str:
    """One try, such as "cached, context 65,536: fits, 3.10 GiB"."""
    used = "" if peak_bytes is None else f", {format_value(peak_bytes, 'bytes')}"
    return f"{arm}, {axis} {size:,}: {OUTCOMES.get(outcome, outcome)}{used}"


def _of_memory(edge: FrontierEdge) -> bool:
    """Whether there is an edge, and memory is what ended the search."""
    ended = next((each.outcome for each in edge.tries if each.size == edge.found_above), None)
    return edge.found is not None and ended in OF_MEMORY


def _alone(record: RunRecord, edge: FrontierEdge) -> str:
    name = arm_names(record.arms)[edge.arm]
    if edge.found is None:
        return f"{_opening(edge)} {name} has no size that fits: {printable(edge.detail)}."
    # An edge of memory says it by itself; any other end has to be named.
    why = "" if _of_memory(edge) else f": {printable(edge.detail)}"
    return f"{_opening(edge)} {name} fits {edge.found:,} {UNITS[edge.axis]}{why}."


def _pair(record: RunRecord, first: FrontierEdge, edge: FrontierEdge) -> str:
    """Two edges of memory, and the share that lies between them."""
    assert first.found is not None
    assert edge.found is not None
    names, arms = arm_names(record.arms), record.arms
    change = edge.found / first.found - 1
    if edge.found == first.found:
        share = "the same"
    elif change < 0 and arms[edge.arm].cache != NO_CACHE and arms[first.arm].cache == NO_CACHE:
        share = f"the cache costs {_percent(change)} of the {edge.axis}"
    else:
        share = f"{_percent(change)} {'less' if change < 0 else 'more'}"
    fits = f"{names[first.arm]} fits {first.found:,} {UNITS[edge.axis]} and {names[edge.arm]} {edge.found:,}"
    return f"{_opening(edge)} {fits}: {share}."


def _percent(change: float) -> str:
    return format_value(abs(change), "ratio")


def _opening(edge: FrontierEdge) -> str:
    return f"At batch {edge.fixed:,}" if edge.axis == "context" else f"At {edge.fixed:,} tokens of context"


def _above(edge: FrontierEdge) -> str:
    ended = next((each for each in edge.tries if each.size == edge.found_above), None)
    return UNKNOWN if ended is None else f"{ended.size:,}: {OUTCOMES.get(ended.outcome, ended.outcome)}"


def _held(edge: FrontierEdge) -> str:
    return f"batch {edge.fixed:,}" if edge.axis == "context" else f"{edge.fixed:,} tokens"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


# How a step grows with the context, in sentences and as the rows of one table: the console, the page and exports.


GROWTH_CAPTION = "Growth with the context: the time of a step, the law fitted to it, and what steps add up to"
MIXTURE = "TTFT, ITL, rates and the speed-up are over all lengths together; what holds at each stands further down"
BEYOND = "* asks the law about longer contexts than were measured"
POWERS = ("", "·L", "·L²")
PER = 1000  # tokens, for what a step gains

Section = Literal["step", "law", "total"]


@dataclass(frozen=True)
class GrowthRow:
    """One line of the table: `cells` hold a figure with its interval for every arm."""

    section: Section
    title: str
    cells: tuple[str, ...]


def growth_arms(record: RunRecord) -> tuple[str, ...]:
    """Names of the arms in the table's columns; empty for a run that did not vary the length."""
    names = arm_names(record.arms)
    return tuple(names[law.arm] for law in record.growth.laws) if record.growth else ()


def growth_rows(record: RunRecord) -> tuple[GrowthRow, ...]:
    """Steps at every length, then the laws, then totals; empty for a run that did not vary the length."""
    return (*_steps(record.growth), *_laws(record.growth), *_totals(record.growth)) if record.growth else ()


def law_text(law: Law) -> str:
    """The law with its coefficients: `t(L) = 1.20 ms + 3.10 µs·L + 400 ps·L²`, or `t(L) = max(12.0 ms, 10.0 µs·L)`."""
    terms = [coefficient.value or 0.0 for coefficient in (law.launch_s, law.per_token_s, law.per_token2_s)]
    launch, *growing = [f"{format_value(abs(value), 's')}{power}" for value, power in zip(terms, POWERS, strict=True)]
    if law.form == "max":
        if law.per_token2_s.value is None:
            del growing[1]
        return f"t(L) = max({launch}, {_joined(growing, terms[1:])})"
    return f"t(L) = {_joined([launch, *growing], terms)}"


def _joined(parts: Sequence[str], values: Sequence[float]) -> str:
    """Terms with their signs between them, and before the first one if it is negative."""
    signs = ["−" if value < 0 else "+" for value in values]
    return " ".join(
        [
            f"{'−' * (values[0] < 0)}{parts[0]}",
            *(f"{sign} {part}" for sign, part in zip(signs[1:], parts[1:], strict=False)),
        ]
    )


def growth_sentences(record: RunRecord) -> tuple[str, ...]:
    """What a run over several lengths has found, in words; empty for any other run."""
    grown, names = record.growth, arm_names(record.arms)
    if grown is None:
        return ()
    sentences = [_growth_sentence(grown, names)]
    for each in grown.break_evens:
        claim = _claim(record, grown, each, names)
        sentences += [claim] if claim else []
        pair = f"Break-even of {names[each.candidate_arm]} against {names[each.baseline_arm]}"
        sentences.append(f"{pair}: {printable(each.detail)}.")
    sentences += _total_sentence(grown, names)
    sentences += [_decode_sentence(each, names[each.arm]) for each in grown.decodes]
    return tuple(sentences)


def _steps(grown: Growth) -> Iterator[GrowthRow]:
    by_arm = [[point for point in grown.points if point.arm == law.arm] for law in grown.laws]
    for points in zip(*by_arm, strict=True):
        cells = tuple(format_estimate(point.itl_s, "s") for point in points)
        yield GrowthRow("step", f"ITL at {_tokens(points[0].context_length)}", cells)


def _laws(grown: Growth) -> Iterator[GrowthRow]:
    for title, name in (
        ("without context", "launch_s"),
        ("per token", "per_token_s"),
        ("per token²", "per_token2_s"),
    ):
        yield GrowthRow("law", title, tuple(_seconds(getattr(law, name)) for law in grown.laws))
    ends = f"{_tokens(grown.shortest)} to {_tokens(grown.longest)}"
    yield GrowthRow("law", ends, tuple(format_estimate(law.growth, "times") for law in grown.laws))
    exponents = tuple(UNKNOWN if law.exponent is None else f"{law.exponent:z.2f}" for law in grown.laws)
    yield GrowthRow("law", "as a power of L", exponents)
    yield GrowthRow("law", "growth", tuple(law.order for law in grown.laws))
    yield GrowthRow("law", "misses at most", tuple(format_value(law.worst_error, "ratio") for law in grown.laws))


def _totals(grown: Growth) -> Iterator[GrowthRow]:
    by_arm = [[total for total in grown.totals if total.arm == law.arm] for law in grown.laws]
    for totals in zip(*by_arm, strict=True):
        beyond = " *" if totals[0].beyond_range else ""
        cells = tuple(_seconds(total.seconds) for total in totals)
        yield GrowthRow("total", f"{totals[0].new_tokens:,} new tokens{beyond}", cells)


def _growth_sentence(grown: Growth, names: tuple[str, ...]) -> str:
    grows = [
        f"a step of {names[law.arm]} takes {format_estimate(law.growth, 'times')} as long ({law.order})"
        for law in grown.laws
    ]
    return f"From {_tokens(grown.shortest)} to {_tokens(grown.longest)} tokens of context {', '.join(grows)}."


def _claim(record: RunRecord, grown: Growth, pair: BreakEven, names: tuple[str, ...]) -> str | None:
    """The answer to what textbooks say of a cache, for a pair of an arm without one and an arm with one."""
    if record.arms[pair.baseline_arm].cache != NO_CACHE or record.arms[pair.candidate_arm].cache == NO_CACHE:
        return None
    laws = {law.arm: law for law in grown.laws}
    without, cached = laws[pair.baseline_arm], laws[pair.candidate_arm]
    baseline, candidate = names[pair.baseline_arm], names[pair.candidate_arm]
    claim = "The claim that O(n) per token becomes O(1)"
    irregular = [name for name, law in ((baseline, without), (candidate, cached)) if law.order == "irregular"]
    if irregular:
        return (
            f"{claim} has no answer by orders here, as {' and '.join(irregular)} follows no such law; see the factors."
        )
    if without.order == "constant":
        return f"{claim} does not show at these lengths: a step of {baseline} does not grow either."
    if cached.order == "constant":
        return f"{claim} holds at these lengths: {baseline} is {without.order}, {candidate} constant."
    gained = format_value(_gained_s(grown, cached), "s")
    beside = format_value(_gained_s(grown, without), "s")
    return (
        f"{claim} does not hold to the letter: {candidate} is {cached.order} too, but gains {gained} a step for"
        f" every {PER:,} tokens where {baseline} gains {beside}."
    )


def by_law(law: Law, contexts: np.ndarray) -> np.ndarray:
    """Seconds of a step at each context length, by a law's mean coefficients."""
    launch_s, per_token_s, per_token2_s = (
        coefficient.value or 0.0 for coefficient in (law.launch_s, law.per_token_s, law.per_token2_s)
    )
    work_s = per_token_s * contexts + per_token2_s * contexts**2
    seconds: np.ndarray = np.maximum(launch_s, work_s) if law.form == "max" else launch_s + work_s
    return seconds


def law_s(law: Law, context_length: float) -> float:
    """Seconds of a step at one context length, by a law's mean coefficients."""
    return float(by_law(law, np.asarray([context_length]))[0])


def _gained_s(grown: Growth, law: Law) -> float:
    """Seconds that a step gains for every thousand tokens, over the whole range."""
    span = grown.longest - grown.shortest
    return (law_s(law, grown.longest) - law_s(law, grown.shortest)) / span * PER if span else 0.0


def _total_sentence(grown: Growth, names: tuple[str, ...]) -> list[str]:
    within = [total for total in grown.totals if not total.beyond_range]
    if not within:
        return []
    count = max(total.new_tokens for total in within)
    parts = [
        f"{format_estimate(total.seconds, 's')} with {names[total.arm]}"
        for total in within
        if total.new_tokens == count
    ]
    return [f"By these laws {count:,} new tokens after the shortest prompt take {', '.join(parts)}."]


def _decode_sentence(check: DecodeCheck, name: str) -> str:
    predicted, second, first = (format_value(each, "s") for each in (check.predicted_s, check.second_s, check.first_s))
    return (
        f"A real decode of {check.new_tokens:,} tokens with {name} took {second} where the law says {predicted}"
        f" ({_signed(check.error)}); the first time, at lengths not met before, {first}."
    )


def _seconds(value: Estimate) -> str:
    return format_estimate(value, "s")


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %".replace("-0.0 ", "+0.0 ").replace("-", "−")


def _tokens(length: float) -> str:
    return f"{length:,.0f}"
