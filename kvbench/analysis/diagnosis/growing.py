"""How the steps of both arms grow with the context, in a run over several lengths."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair
from kvbench.quantities import fixed
from kvbench.records.evidence import Sentence


def growth(pair: Pair) -> Sentence | None:
    """The longest length's step over the shortest's, of either arm."""
    grown = pair.record.growth
    if grown is None or not pair.adds_a_cache:
        return None
    laws = {law.arm: (place, law.growth.value) for place, law in enumerate(grown.laws)}
    told = [(arm, *laws[arm]) for arm in pair.arms if arm in laws]
    if len(told) < 2 or any(value is None for _, _, value in told):
        return None
    (baseline, _, first), (candidate, _, second) = told
    lengths = f"From {fixed(grown.shortest, 0)} to {fixed(grown.longest, 0)} tokens"
    text = (
        f"{lengths} a step of {pair.name(baseline)} becomes {fixed(first or 0.0, 2)} times as long, one of"
        f" {pair.name(candidate)} {fixed(second or 0.0, 2)} times."
    )
    evidence = tuple(f"/growth/laws/{place}/growth/value" for _, place, _ in told)
    return Sentence(code="growth", text=text, evidence=evidence)
