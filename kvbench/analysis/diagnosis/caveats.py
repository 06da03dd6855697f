"""What bears on everything else that is said; worth a place only where one is left."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair, of_arm
from kvbench.records.diagnosis import Sentence


def random_weights(pair: Pair) -> Sentence | None:
    """Weights that hardly look at their context prove little about a cache."""
    agreement = pair.comparison.agreement
    if (pair.record.model or {}).get("source") != "random" or agreement.verdict is None:
        return None
    text = "The weights are random: the times are those of the shape; the agreement would hardly notice a broken cache."
    return Sentence(code="random_weights", text=text, evidence=("/model/source", pair.at("agreement/verdict")))


def no_ceilings(pair: Pair) -> Sentence | None:
    """How near a step is to what the machine could do is not known yet."""
    reason = "/null_reasons/~1ceilings"
    known = [arm for arm in pair.arms if pair.record.arms[arm].limit.flops]
    if not pair.adds_a_cache or not known:
        return None
    if pair.record.ceilings is not None or "/ceilings" not in pair.record.null_reasons:
        return None
    text = (
        "How far a step is from what this machine could do is not known:"
        " `kvbench doctor --ceilings` measures that once."
    )
    return Sentence(code="no_ceilings", text=text, evidence=(reason, *of_arm(known[-1], "limit/flops")))
