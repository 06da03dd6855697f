"""What proposed tokens gain and cost, and what a beginning that is computed once saves."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair, of_arm, percent
from kvbench.records.evidence import Sentence
from kvbench.text import fixed, format_value


def proposals(pair: Pair) -> Sentence | None:
    """How many proposed tokens are accepted, what a pass makes of them, and whether that pays."""
    found, arm = pair.candidate.proposals, pair.arms[1]
    if found is None or pair.baseline.proposals is not None:
        return None
    cite = pair.citing()
    name, other = pair.name(arm), pair.name(pair.arms[0])
    per_pass = cite(of_arm(arm, "proposals/tokens_per_pass"), _one_decimal)
    if found.acceptance is None:
        text = f"{name} found nothing to propose: every pass made one token, as those of {other} do."
        return cite.sentence("proposals", text)
    accepted = cite(of_arm(arm, "proposals/acceptance"), percent)
    text = (
        f"{accepted} of the proposed tokens are accepted, so that a pass of {name} makes {per_pass} tokens on average"
    )
    speedup, verdict = pair.comparison.speedup, pair.comparison.verdict
    pass_s, step_s = found.pass_s.value, pair.baseline.itl_s.value
    if pass_s and step_s and speedup.value:
        took = f"{cite(of_arm(arm, 'proposals/pass_s/value'), 's')} instead of"
        took += f" {cite(of_arm(pair.arms[0], 'itl_s/value'), 's')} for a step of {other}"
        text += f"; a pass takes {took}"
        if verdict == "FASTER":
            text += f", which pays: {cite(pair.at('speedup/value'), _times)} as fast"
        elif verdict == "SLOWER":
            text += f", which costs more than it saves: {cite(pair.at('speedup/value'), _times)} as fast"
    weights = found.draft_weights_bytes
    if weights:
        text += f". The draft's weights take another {cite(of_arm(arm, 'proposals/draft_weights_bytes'), 'bytes')}"
    return cite.sentence("proposals", f"{text}.")


def shared_prefix(pair: Pair) -> Sentence | None:
    """How many tokens fewer the prefill submits, and what became of its time."""
    found, arm = pair.candidate.prefix, pair.arms[1]
    if found is None or pair.baseline.prefix is not None:
        return None
    cite = pair.citing()
    shared = cite(of_arm(arm, "prefix/shared_tokens"), "count")
    once = cite(of_arm(arm, "prefix/prefill_tokens"), "count")
    whole = cite(of_arm(arm, "prefix/unshared_prefill_tokens"), "count")
    text = (
        f"The {shared} tokens that all prompts begin with are computed once: prefills submit {once} tokens instead of"
        f" {whole}"
    )
    ours, theirs = pair.candidate.ttft_s.value, pair.baseline.ttft_s.value
    if ours and theirs:
        mine = cite(of_arm(arm, "ttft_s/value"), "s")
        text += (
            f", and the time to the first token is {mine} instead of {cite(of_arm(pair.arms[0], 'ttft_s/value'), 's')}"
        )
    return cite.sentence("shared_prefix", f"{text}.")


def _one_decimal(value: float) -> str:
    return fixed(value, 1)


def _times(ratio: float) -> str:
    return format_value(ratio, "times")
