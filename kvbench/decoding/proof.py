"""Whether every forward pass submitted what its mode promises."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import TypedDict

from kvbench.decoding.buckets import EXACT, Buckets
from kvbench.decoding.chunks import WHOLE, Chunks
from kvbench.decoding.protocol import Pass
from kvbench.interruptions import NONE, Interruptions
from kvbench.records.untimed import Proof


def prove(
    passes: Sequence[Pass],
    prompt: int,
    keeps_past: bool,
    interruptions: Interruptions = NONE,
    *,
    loses_past: bool = False,
    buckets: Buckets = EXACT,
    chunks: Chunks = WHOLE,
) -> Proof:
    """Check passes in order, the prefill first; `prompt` is its length in tokens, padding included.

    Recompute submits the whole context with no past, filled up to its bucket. Cached submits what the past lacks, in
    `chunks`: the prompt, then one token and what was inserted before it, and the past grows by exactly that. A mode
    that `loses_past` submits everything to an empty past at each interruption.
    """
    by_token = passes_by_token(
        len(passes), prompt, keeps_past, interruptions, loses_past=loses_past, buckets=buckets, chunks=chunks
    )
    prefill = len(by_token[0]) if by_token else 0
    pairs = list(zip(passes, chain.from_iterable(by_token), strict=False))  # at most as many tokens as passes
    broken = [index for index, (made, right) in enumerate(pairs) if made != right]
    resubmitted = sum(
        keeps_past and pairs[index][0].submitted == pairs[index][1].past_after for index in broken if index >= prefill
    )
    first = _in_words(pairs, broken[0], prefill) if broken else None
    return Proof(len(passes), len(broken), first, resubmitted)


def _in_words(pairs: Sequence[tuple[Pass, Pass]], first: int, prefill: int) -> str:
    """The first violation, and what it means where all of them mean one thing."""
    made, right = pairs[first]
    text = f"pass {first}: submitted {made.submitted}, past {made.past_before} -> {made.past_after}"
    steps = [(step, promise) for step, promise in pairs[prefill:] if promise.past_before]
    if steps and all(step.submitted >= (promise.past_after or 0) for step, promise in steps):
        return f"Your cached loop submitted all tokens at every step: the cache is not used ({text})"
    if made.submitted == right.submitted and right.past_after is not None:
        return f"{text}, where a past of {right.past_after} tokens belongs"
    return text


class Promise(TypedDict, total=False):
    """How an arm hands its tokens over; see `prove`."""

    loses_past: bool
    buckets: Buckets
    chunks: Chunks


@lru_cache(maxsize=64)  # every visit of an arm is held against the same promise
def passes_by_token(
    new_tokens: int,
    prompt: int,
    keeps_past: bool,
    interruptions: Interruptions,
    *,
    loses_past: bool,
    buckets: Buckets = EXACT,
    chunks: Chunks = WHOLE,
) -> tuple[tuple[Pass, ...], ...]:
    """What a mode promises to submit for each new token, of which the last pass makes it; see `prove`."""
    contexts = [interruptions.context(prompt, index) for index in range(new_tokens)]
    if not keeps_past:
        return tuple((Pass(buckets.padded(context), None, None),) for context in contexts)
    pasts = [0, *contexts]
    return tuple(
        tuple(
            Pass(end - begin, begin, end)
            for begin, end in chunks.spans(
                0 if loses_past and index in interruptions.steps else pasts[index], contexts[index]
            )
        )
        for index in range(new_tokens)
    )


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
