"""The answers of one run in sentences, in the order in which a reader asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import groupby

from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.report.formatting import null_reason
from kvbench.report.lengths import (
    BEYOND,
    CAPTION,
    TITLES,
    frontier_limit,
    frontier_rows,
    frontier_sentences,
    growth_arms,
    growth_rows,
    growth_sentences,
)
from kvbench.report.run_facts import preparations
from kvbench.report.verdicts import extra_memory_bytes, pairs
from kvbench.text import UNKNOWN, format_value


@dataclass(frozen=True)
class Table:
    """The figures behind an answer: rows of text in groups that belong together, the first cell naming its row."""

    caption: str
    head: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...]


@dataclass(frozen=True)
class Answer:
    """A question's title and what the run says to it."""

    title: str
    sentences: tuple[str, ...]
    table: Table | None = None


def answers(record: RunRecord) -> tuple[Answer, ...]:
    """Those that the run has something to say to; the speed-up itself is the verdict's."""
    tables = {GROWTH: _growth_table(record), FRONTIER: _frontier_table(record)}
    asked = ((title, tuple(answer(record))) for title, answer in QUESTIONS)
    return tuple(Answer(title, sentences, tables.get(title)) for title, sentences in asked if sentences)


def _growth_table(record: RunRecord) -> Table | None:
    rows = growth_rows(record)
    groups = tuple(tuple((row.title, *row.cells) for row in part) for _, part in groupby(rows, lambda row: row.section))
    beyond = record.growth is not None and any(total.beyond_range for total in record.growth.totals)
    caption = f"{CAPTION}. {BEYOND}" if beyond else CAPTION
    return Table(caption, ("", *growth_arms(record)), groups) if rows else None


def _frontier_table(record: RunRecord) -> Table | None:
    rows = tuple(astuple(row) for row in frontier_rows(record))
    return Table(f"what fits {frontier_limit(record)}", TITLES, (rows,)) if rows else None


def _diagnosis(record: RunRecord) -> Iterator[str]:
    """Each sentence once, with its candidate where several were compared."""
    names = arm_names(record.arms)
    said: dict[str, list[str]] = {}
    for comparison in record.comparisons:
        for sentence in comparison.diagnosis:
            said.setdefault(sentence.text, []).append(names[comparison.candidate_arm])
    for text, candidates in said.items():
        yield text if len(candidates) == len(record.comparisons) else f"{', '.join(candidates)}: {text}"


def _agreement(record: RunRecord) -> Iterator[str]:
    for pair in pairs(record):
        if pair.agreement != UNKNOWN:
            yield f"{pair.candidate} against {pair.baseline}: {pair.agreement} ({pair.agreement_detail})."
    names = arm_names(record.arms)
    for distance in record.references:
        rel = UNKNOWN if distance.max_rel_logit_diff is None else f"{distance.max_rel_logit_diff:.1e}"
        yield (
            f"{names[distance.arm]} against the same model in {distance.dtype}: largest relative logit difference"
            f" {rel}, another likeliest token {distance.argmax_flips} times over {distance.steps} steps."
        )


def _memory(record: RunRecord) -> Iterator[str]:
    names = arm_names(record.arms)
    for number, comparison in enumerate(record.comparisons):
        place, against = comparison.candidate_arm, comparison.baseline_arm
        extra = extra_memory_bytes(record, comparison)
        cache = record.arms[place].memory.kv_cache_bytes
        held = "" if cache is None else f"; its cache holds {format_value(cache, 'bytes')}"
        if extra is None:
            without = [arm for arm in (place, against) if record.arms[arm].memory.peak_allocated_bytes is None]
            pointers = [f"/arms/{arm}/memory/peak_allocated_bytes" for arm in without]
            reason = null_reason(record, [*pointers, f"/comparisons/{number}/extra_memory_bytes"][0])
            more = f"How much more memory {names[place]} takes than {names[against]} is not known"
            yield f"{more} ({reason}){held}."
            continue
        sign = "less" if extra < 0 else "more"
        yield f"{names[place]} takes {format_value(abs(extra), 'bytes')} {sign} than {names[against]}{held}."


def _limits(record: RunRecord) -> Iterator[str]:
    """Where a floor is known: how far the step is from it and what it waits for."""
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        limit = arm.limit
        if limit.floor_s is None:
            continue
        bound = "" if limit.bound is None else f", bound by {BOUNDS[limit.bound]}"
        shares = [
            f"{title} {format_value(share, 'ratio')}"
            for title, share in (("MBU", limit.mbu), ("MFU", limit.mfu))
            if share is not None
        ]
        at = f" ({', '.join(shares)})" if shares else ""
        itl = format_value(arm.itl_s.value, "s")
        floor = format_value(limit.floor_s, "s")
        yield f"{name}: a step takes {itl}, this machine could do it in {floor}{at}{bound}."


BOUNDS = {
    "launch": "launching kernels",
    "memory": "reading memory",
    "compute": "computing",
    "first-visit": "what a length costs the first time",
}

GROWTH = "How it grows, and from where the cache wins"
FRONTIER = "What fits"

# Every question of the page. One more is a row here.
QUESTIONS: tuple[tuple[str, Callable[[RunRecord], Iterable[str]]], ...] = (
    ("Why", _diagnosis),
    ("What the first visit cost", preparations),
    ("Is the output the same?", _agreement),
    ("What it costs in memory", _memory),
    (GROWTH, growth_sentences),
    ("How far from the machine's limits", _limits),
    (FRONTIER, frontier_sentences),
)
