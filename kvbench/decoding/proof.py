"""Whether every forward pass submitted what its mode promises."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from kvbench.decoding.buckets import EXACT, Buckets
from kvbench.decoding.protocol import Pass
from kvbench.interruptions import NONE, Interruptions
from kvbench.measuring.untimed_pass import Proof


def prove(
    passes: Sequence[Pass],
    prompt: int,
    keeps_past: bool,
    interruptions: Interruptions = NONE,
    *,
    loses_past: bool = False,
    buckets: Buckets = EXACT,
) -> Proof:
    """Check passes in order, the prefill first; `prompt` is its length in tokens, padding included.

    Recompute submits the whole context with no past, filled up to its bucket. Cached submits what the past lacks: the
    prompt, then one token and what was inserted before it, and the past grows by exactly that. A mode that `loses_past`
    submits everything to an empty past at each interruption.
    """
    promised = promised_passes(len(passes), prompt, keeps_past, interruptions, loses_past=loses_past, buckets=buckets)
    pairs = list(zip(passes, promised, strict=True))
    broken = [index for index, (made, right) in enumerate(pairs) if made != right]
    resubmitted = sum(
        keeps_past and pairs[index][0].submitted == interruptions.context(prompt, index) for index in broken if index
    )
    return Proof(len(passes), len(broken), _in_words(pairs, broken[0]) if broken else None, resubmitted)


def _in_words(pairs: Sequence[tuple[Pass, Pass]], first: int) -> str:
    """The first violation, and what it means where all of them mean one thing."""
    made, right = pairs[first]
    text = f"pass {first}: submitted {made.submitted}, past {made.past_before} -> {made.past_after}"
    steps = [(step, promise) for step, promise in pairs if promise.past_before]
    if steps and all(step.submitted >= (promise.past_after or 0) for step, promise in steps):
        return f"Your cached loop submitted all tokens at every step: the cache is not used ({text})"
    if made.submitted == right.submitted and right.past_after is not None:
        return f"{text}, where a past of {right.past_after} tokens belongs"
    return text


@lru_cache(maxsize=64)  # every visit of an arm is held against the same promise
def promised_passes(
    count: int,
    prompt: int,
    keeps_past: bool,
    interruptions: Interruptions,
    *,
    loses_past: bool,
    buckets: Buckets = EXACT,
) -> tuple[Pass, ...]:
    """What a mode promises to submit, pass by pass; see `prove`."""
    if not keeps_past:
        contexts = (interruptions.context(prompt, index) for index in range(count))
        return tuple(Pass(buckets.padded(context), None, None) for context in contexts)
    return tuple(_promised(index, prompt, interruptions, loses_past) for index in range(count))


def _promised(index: int, prompt: int, interruptions: Interruptions, loses_past: bool) -> Pass:
    context = interruptions.context(prompt, index)
    if index == 0 or (loses_past and index in interruptions.steps):
        return Pass(context, 0, context)
    past = interruptions.context(prompt, index - 1)
    return Pass(context - past, past, context)


def together(proofs: Sequence[Proof]) -> Proof:
    """Several proofs as one."""
    first = next((proof.first_violation for proof in proofs if proof.first_violation), None)
    return Proof(
        sum(proof.steps_checked for proof in proofs),
        sum(proof.violations for proof in proofs),
        first,
        sum(proof.resubmitted for proof in proofs),
        tuple(dict.fromkeys(unseen for proof in proofs for unseen in proof.unseen)),
    )
