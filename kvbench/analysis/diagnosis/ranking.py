"""At most five sentences about a comparison, the most important ones first."""

from __future__ import annotations

from kvbench.analysis.diagnosis.consumption import arithmetic, cache_bytes, communication, energy, reading, rebuilding
from kvbench.analysis.diagnosis.drafting import proposals, shared_prefix
from kvbench.analysis.diagnosis.launching import break_even, growth, launching
from kvbench.analysis.diagnosis.pair import Finding, Pair
from kvbench.analysis.diagnosis.surcharges import NOTEWORTHY, all_logits, first_visit, habit, padding, preparing
from kvbench.analysis.diagnosis.trust import (
    ambiguous,
    explaining,
    host_speed,
    invalidity,
    no_ceilings,
    partly_throttled,
    random_weights,
    unlike_engines,
)
from kvbench.records.evidence import Sentence
from kvbench.records.run_record import RunRecord

MOST_SENTENCES = 5

# What weakens the answer; then causes, each with its remedy; then where it turns; then costs; then what is not known.
FINDINGS: tuple[Finding, ...] = (
    ambiguous,
    partly_throttled,
    host_speed,
    unlike_engines,
    habit,
    proposals,
    shared_prefix,
    launching,
    communication,
    first_visit,
    preparing,
    padding,
    all_logits,
    arithmetic,
    break_even,
    growth,
    reading,
    rebuilding,
    cache_bytes,
    energy,
    random_weights,
    no_ceilings,
)

# What a host that changed its speed may explain by itself: then none of it is called a cause.
OF_THE_HOST: tuple[Finding, ...] = (launching, reading)
OF_A_LARGE_CHANGE: tuple[Finding, ...] = (first_visit,)  # which is a ratio itself, of visits moments apart


def diagnosis(record: RunRecord, comparison: int) -> tuple[Sentence, ...]:
    """Why a comparison of the record is what it is; of one that is not a result, only why it is none.

    Every sentence rests on figures of the record, to which its `evidence` points. `record.null_reasons` must be there.
    """
    pair = Pair(record, comparison)
    if not record.valid or pair.comparison.verdict == "INVALID":
        return tuple(invalidity(pair)[:MOST_SENTENCES])
    found = (finding(pair) for finding in FINDINGS if finding not in _withheld(pair))
    return tuple(sentence for sentence in found if sentence is not None)[:MOST_SENTENCES]


def _withheld(pair: Pair) -> tuple[Finding, ...]:
    change = explaining(pair)
    if change is None:
        return ()
    is_large = max(change.ratio, 1 / change.ratio) >= NOTEWORTHY
    return OF_THE_HOST + (OF_A_LARGE_CHANGE if is_large else ())
