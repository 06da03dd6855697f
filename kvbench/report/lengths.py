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
from kvbench.report.sentences import is_said, joined, listed, meaning, own_words, recorded, say
from kvbench.text import UNKNOWN, format_value, printable

# What fits, in rows and in sentences.


FRONTIER_HEADS = ("head.nothing", "head.at", "head.predicted", "head.found", "head.error", "head.next-failed")
OF_NUMBERS = ("head.predicted", "head.found", "head.error")
OF_MEMORY = ("oom", "infeasible")


@dataclass(frozen=True)
class EdgeRow:
    """One arm along one axis, as text, in the order of `FRONTIER_HEADS`."""

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
            arm=say(f"edge.of.{edge.axis}", name=names[edge.arm]),
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
    """What was searched for, and the memory that the search had."""
    limit = record.frontier.limit_bytes if record.frontier else None
    return say("sizes.unlimited") if limit is None else say("sizes.within", limit=format_value(limit, "bytes"))


def try_line(arm: str, axis: str, size: int, outcome: str, peak_bytes: int | None) -> str:
    """One try, such as "cached, context 65,536: fits, 3.10 GiB"."""
    tried = {"name": arm, "size": f"{size:,}", "outcome": _outcome(outcome)}
    if peak_bytes is None:
        return say(f"edge.try.{axis}", **tried)
    return say(f"edge.try.{axis}.peak", peak=format_value(peak_bytes, "bytes"), **tried)


def _outcome(outcome: str) -> str:
    return say(f"outcome.{outcome}") if is_said(f"outcome.{outcome}") else outcome


def _of_memory(edge: FrontierEdge) -> bool:
    """Whether there is an edge, and memory is what ended the search."""
    ended = next((each.outcome for each in edge.tries if each.size == edge.found_above), None)
    return edge.found is not None and ended in OF_MEMORY


def _alone(record: RunRecord, edge: FrontierEdge) -> str:
    name = arm_names(record.arms)[edge.arm]
    if edge.found is None:
        return say(f"edge.{edge.axis}.none", reason=own_words(printable(edge.detail)), **_at(edge, name))
    found = f"{edge.found:,}"
    # An edge of memory says it by itself; any other end has to be named.
    if _of_memory(edge):
        return say(f"edge.{edge.axis}.fits", found=found, **_at(edge, name))
    return say(f"edge.{edge.axis}.until", found=found, reason=own_words(printable(edge.detail)), **_at(edge, name))


def _pair(record: RunRecord, first: FrontierEdge, edge: FrontierEdge) -> str:
    """Two edges of memory, and the share that lies between them."""
    assert first.found is not None
    assert edge.found is not None
    names, arms = arm_names(record.arms), record.arms
    change = edge.found / first.found - 1
    if edge.found == first.found:
        share = say("edge.same")
    elif change < 0 and arms[edge.arm].cache != NO_CACHE and arms[first.arm].cache == NO_CACHE:
        share = say(f"edge.{edge.axis}.cost", share=_percent(change))
    else:
        share = say("edge.less" if change < 0 else "edge.more", share=_percent(change))
    return say(
        f"edge.{edge.axis}.pair",
        first=f"{first.found:,}",
        other=names[edge.arm],
        second=f"{edge.found:,}",
        share=share,
        **_at(edge, names[first.arm]),
    )


def _percent(change: float) -> str:
    return format_value(abs(change), "ratio")


def _at(edge: FrontierEdge, name: str) -> dict[str, str]:
    """The arm, and the size along the other axis, which is held."""
    return {"name": name, "fixed": f"{edge.fixed:,}"}


def _above(edge: FrontierEdge) -> str:
    ended = next((each for each in edge.tries if each.size == edge.found_above), None)
    return UNKNOWN if ended is None else say("edge.above", size=f"{ended.size:,}", outcome=_outcome(ended.outcome))


def _held(edge: FrontierEdge) -> str:
    return say("count.batch" if edge.axis == "context" else "count.tokens", count=f"{edge.fixed:,}")


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


# How a step grows with the context, in sentences and as the rows of one table: the console, the page and exports.


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
        pair = {"candidate": names[each.candidate_arm], "baseline": names[each.baseline_arm]}
        sentences.append(say("growth.break-even", detail=crossing(record, each), **pair))
    sentences += _total_sentence(grown, names)
    sentences += [_decode_sentence(each, names[each.arm]) for each in grown.decodes]
    return tuple(sentences)


def crossing(record: RunRecord, found: BreakEven) -> str:
    """What the record says of where two laws cross; where there is a length, it is told in the language spoken."""
    names, length, detail = arm_names(record.arms), found.context_length, printable(found.detail)
    known = recorded("diagnosis.break_even", detail)
    if known or length is None:
        return known or own_words(detail)
    candidate, baseline = names[found.candidate_arm], names[found.baseline_arm]
    return joined(
        meaning("break-even", candidate=candidate, baseline=baseline, length=_tokens(length)), own_words(detail)
    )


def _steps(grown: Growth) -> Iterator[GrowthRow]:
    by_arm = [[point for point in grown.points if point.arm == law.arm] for law in grown.laws]
    for points in zip(*by_arm, strict=True):
        cells = tuple(format_estimate(point.itl_s, "s") for point in points)
        yield GrowthRow("step", say("growth.itl-at", length=_tokens(points[0].context_length)), cells)


def _laws(grown: Growth) -> Iterator[GrowthRow]:
    for code, name in (
        ("growth.without-context", "launch_s"),
        ("growth.per-token", "per_token_s"),
        ("growth.per-token2", "per_token2_s"),
    ):
        yield GrowthRow("law", say(code), tuple(_seconds(getattr(law, name)) for law in grown.laws))
    ends = say("growth.ends", shortest=_tokens(grown.shortest), longest=_tokens(grown.longest))
    yield GrowthRow("law", ends, tuple(format_estimate(law.growth, "times") for law in grown.laws))
    exponents = tuple(UNKNOWN if law.exponent is None else f"{law.exponent:z.2f}" for law in grown.laws)
    yield GrowthRow("law", say("growth.power"), exponents)
    yield GrowthRow("law", say("growth.order"), tuple(say(f"order.{law.order}") for law in grown.laws))
    yield GrowthRow("law", say("growth.misses"), tuple(format_value(law.worst_error, "ratio") for law in grown.laws))


def _totals(grown: Growth) -> Iterator[GrowthRow]:
    by_arm = [[total for total in grown.totals if total.arm == law.arm] for law in grown.laws]
    for totals in zip(*by_arm, strict=True):
        code = "growth.total.beyond" if totals[0].beyond_range else "growth.total"
        cells = tuple(_seconds(total.seconds) for total in totals)
        yield GrowthRow("total", say(code, count=f"{totals[0].new_tokens:,}"), cells)


def _growth_sentence(grown: Growth, names: tuple[str, ...]) -> str:
    grows = [
        say(
            "growth.grows.arm",
            name=names[law.arm],
            figure=format_estimate(law.growth, "times"),
            order=say(f"order.{law.order}"),
        )
        for law in grown.laws
    ]
    ends = {"shortest": _tokens(grown.shortest), "longest": _tokens(grown.longest)}
    return say("growth.grows", arms=say("between.parts").join(grows), **ends)


def _claim(record: RunRecord, grown: Growth, pair: BreakEven, names: tuple[str, ...]) -> str | None:
    """The answer to what textbooks say of a cache, for a pair of an arm without one and an arm with one."""
    if record.arms[pair.baseline_arm].cache != NO_CACHE or record.arms[pair.candidate_arm].cache == NO_CACHE:
        return None
    laws = {law.arm: law for law in grown.laws}
    without, cached = laws[pair.baseline_arm], laws[pair.candidate_arm]
    baseline, candidate = names[pair.baseline_arm], names[pair.candidate_arm]
    pair_of = {"candidate": candidate, "baseline": baseline}
    irregular = [name for name, law in ((baseline, without), (candidate, cached)) if law.order == "irregular"]
    if irregular:
        return say("claim.irregular", names=listed(irregular))
    if without.order == "constant":
        return say("claim.does-not-show", baseline=baseline)
    if cached.order == "constant":
        return say("claim.holds", order=say(f"order.{without.order}"), **pair_of)
    return say(
        "claim.to-the-letter",
        order=say(f"order.{cached.order}"),
        gained=format_value(_gained_s(grown, cached), "s"),
        beside=format_value(_gained_s(grown, without), "s"),
        per=f"{PER:,}",
        **pair_of,
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
        say("growth.totals.arm", figure=format_estimate(total.seconds, "s"), name=names[total.arm])
        for total in within
        if total.new_tokens == count
    ]
    return [say("growth.totals", count=f"{count:,}", arms=say("between.parts").join(parts))]


def _decode_sentence(check: DecodeCheck, name: str) -> str:
    return say(
        "growth.real-decode",
        name=name,
        count=f"{check.new_tokens:,}",
        predicted=format_value(check.predicted_s, "s"),
        second=format_value(check.second_s, "s"),
        first=format_value(check.first_s, "s"),
        error=_signed(check.error),
    )


def _seconds(value: Estimate) -> str:
    return format_estimate(value, "s")


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %".replace("-0.0 ", "+0.0 ").replace("-", "−")


def _tokens(length: float) -> str:
    return f"{length:,.0f}"
