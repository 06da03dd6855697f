"""The answers of one run in sentences, in the order in which a reader asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.formatting import UNKNOWN, format_value
from kvbench.report.nulls import null_reason
from kvbench.report.verdicts import pairs


@dataclass(frozen=True)
class Answer:
    """A question's title and what the run says to it."""

    title: str
    sentences: tuple[str, ...]


def answers(record: RunRecord) -> tuple[Answer, ...]:
    """Those that the run has something to say to; the speed-up itself is the verdict's."""
    asked = ((title, tuple(answer(record))) for title, answer in QUESTIONS)
    return tuple(Answer(title, sentences) for title, sentences in asked if sentences)


def _diagnosis(record: RunRecord) -> Iterator[str]:
    """Each sentence once, with its candidate where several were compared."""
    names = arm_names(record)
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
    names = arm_names(record)
    for distance in record.references:
        rel = UNKNOWN if distance.max_rel_logit_diff is None else f"{distance.max_rel_logit_diff:.1e}"
        yield (
            f"{names[distance.arm]} against the same model in {distance.dtype}: largest relative logit difference"
            f" {rel}, another likeliest token in {distance.argmax_flips} of {distance.steps} steps."
        )


def _memory(record: RunRecord) -> Iterator[str]:
    names = arm_names(record)
    for index, comparison in enumerate(record.comparisons):
        candidate, baseline = names[comparison.candidate_arm], names[comparison.baseline_arm]
        extra = comparison.extra_memory_bytes
        if extra is None:
            reason = null_reason(record, f"/comparisons/{index}/extra_memory_bytes")
            yield f"What {candidate} takes beyond {baseline} is not known: {reason}."
            continue
        cache = record.arms[comparison.candidate_arm].memory.kv_cache_bytes
        held = "" if cache is None else f"; its cache holds {format_value(cache, 'bytes')}"
        sign = "less" if extra < 0 else "more"
        yield f"{candidate} takes {format_value(abs(extra), 'bytes')} {sign} than {baseline}{held}."


def _limits(record: RunRecord) -> Iterator[str]:
    """Where a floor is known: how far the step is from it and what it waits for."""
    for name, arm in zip(arm_names(record), record.arms, strict=True):
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

# Every question of the page. One more is a row here.
QUESTIONS: tuple[tuple[str, Callable[[RunRecord], Iterator[str] | tuple[str, ...]]], ...] = (
    ("Why", _diagnosis),
    ("Is the output the same?", _agreement),
    ("What it costs in memory", _memory),
    ("How far from the machine's limits", _limits),
)
