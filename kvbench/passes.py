"""How many tokens a pass submits, where its past is lost, and whether it submitted what its mode promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, takewhile
from typing import TypedDict

from kvbench.decoding.protocol import Pass
from kvbench.records.proposals import ProposalCounts
from kvbench.records.untimed import Proof

# Where a decode is interrupted: the cache is lost there, or a message is inserted, or both.


@dataclass(frozen=True)
class Interruptions:
    """The passes that follow an interruption, and what was inserted before them.

    `steps` are indices of new tokens, ascending: the prefill makes token 0, so the first step that can be interrupted
    is 1. `message_ids` are inserted at each of them, after the tokens so far; empty when the cache is merely lost.
    """

    steps: tuple[int, ...] = ()
    message_ids: tuple[int, ...] = ()

    def context(self, prompt: int, index: int) -> int:
        """Tokens visible to the pass that makes new token `index` after a prompt of `prompt` tokens."""
        return prompt + index + len(self.message_ids) * sum(step <= index for step in self.steps)


UNINTERRUPTED = Interruptions()


def default_steps(new_tokens: int) -> tuple[int, ...]:
    """After a quarter, a half and three quarters of the new tokens, as far as these differ."""
    return tuple(sorted({max(1, new_tokens * quarter // 4) for quarter in (1, 2, 3)}))


# Lengths to which passes without a cache are padded, so that few shapes are compiled or captured.


@dataclass(frozen=True)
class Buckets:
    """Multiples of `size` tokens, but never more than `most`, the model's longest context."""

    size: int = 1
    most: int | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing is ever padded."""
        return self.size == 1

    def padded(self, tokens: int) -> int:
        """The tokens that are submitted for a context of so many."""
        bucket = -(-tokens // self.size) * self.size
        return bucket if self.most is None else max(tokens, min(bucket, self.most))


EXACT = Buckets()


# Pieces in which tokens are handed to a cache: a long prompt need not go through the model in one pass.


@dataclass(frozen=True)
class Chunks:
    """Pieces of `size` tokens, of which the last one may be smaller; None: everything at once."""

    size: int | None = None

    def spans(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """First token and end of every piece of the tokens from `begin` up to `end`."""
        size = self.size or max(1, end - begin)
        for start in range(begin, end, size):
            yield start, min(start + size, end)


WHOLE = Chunks()


# Whether every forward pass submitted what its mode promises.


def prove(
    passes: Sequence[Pass],
    prompt: int,
    keeps_past: bool,
    interruptions: Interruptions = UNINTERRUPTED,
    *,
    loses_past: bool = False,
    buckets: Buckets = EXACT,
    chunks: Chunks = WHOLE,
    refill_at: int | None = None,
    shared: int = 0,
) -> Proof:
    """Check passes in order, the prefill first; `prompt` is its length in tokens, padding included.

    Recompute submits the whole context with no past, filled up to its bucket. Cached submits what the past lacks, in
    `chunks`: the prompt, then one token and what was inserted before it, and the past grows by exactly that. A mode
    that `loses_past` submits everything to an empty past at each interruption. One that keeps its past may submit
    everything to a new one in the pass that ends at `refill_at` tokens. The `shared` tokens that all prompts of a batch
    begin with take a pass of their own.
    """
    by_token = passes_by_token(
        len(passes),
        prompt,
        keeps_past,
        interruptions,
        loses_past=loses_past,
        buckets=buckets,
        chunks=chunks,
        shared=shared,
    )
    prefill = len(by_token[0]) if by_token else 0
    pairs = list(zip(passes, chain.from_iterable(by_token), strict=False))  # at most as many tokens as passes
    broken = [
        index
        for index, (made, right) in enumerate(pairs)
        if made != right and not (refill_at is not None and _is_refill(made, right, refill_at))
    ]
    resubmitted = sum(
        keeps_past and pairs[index][0].submitted == pairs[index][1].past_after for index in broken if index >= prefill
    )
    first = _in_words(pairs, broken[0], prefill) if broken else None
    return Proof(len(passes), len(broken), first, resubmitted)


def _is_refill(made: Pass, right: Pass, at: int) -> bool:
    """Whether a pass submitted all of `at` tokens to nothing, where `right` would have added to a past of them."""
    return right.past_after == at == made.submitted and not made.past_before


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
    refill_at: int | None
    shared: int


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
    refill_at: int | None = None,  # noqa: ARG001 - allowed in the place of what is promised, but not promised
    shared: int = 0,
) -> tuple[tuple[Pass, ...], ...]:
    """What a mode promises to submit for each new token, of which the last pass makes it; see `prove`."""
    contexts = [interruptions.context(prompt, index) for index in range(new_tokens)]
    if not keeps_past:
        return tuple((Pass(buckets.padded(context), None, None),) for context in contexts)
    pasts = [0, *contexts]
    by_token = [
        tuple(
            Pass(end - begin, begin, end)
            for begin, end in chunks.spans(
                0 if loses_past and index in interruptions.steps else pasts[index], contexts[index]
            )
        )
        for index in range(new_tokens)
    ]
    if shared and by_token:
        by_token[0] = (Pass(shared, 0, shared), Pass(prompt - shared, shared, prompt))
    return tuple(by_token)


def common_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that several prompts of one length all begin with, short of a whole prompt; 0 for others.

    Prompts of several lengths are filled up in front, where each would begin in another column.
    """
    if len(prompts) < 2 or len(set(map(len, prompts))) > 1:
        return 0
    columns = zip(*prompts, strict=True)
    alike = takewhile(lambda column: len(set(column)) == 1, columns)
    return min(sum(1 for _ in alike), len(prompts[0]) - 1)


# Passes that check proposed tokens: how many tokens one makes depends on what is written.


def draft_round(length: int, proposed: int, *, first: bool) -> tuple[Pass, ...]:
    """The draft's passes that propose so many tokens behind `length` tokens, one pass for each.

    Its cache was cut back to all but the two newest tokens: the last one that was accepted, which the model itself
    chose, and the one before it, which the draft may have proposed last and never read.
    """
    past = 0 if first else length - 2
    starts = (past, *range(length, length + proposed - 1))
    return tuple(
        Pass(length + place - start, start, length + place) for place, start in enumerate(starts[: max(0, proposed)])
    )


@dataclass(frozen=True)
class CheckedProposals:
    """Passes of one sequence that check proposed tokens: `made` has the new tokens of each, `rounds` the draft's
    passes before each (None where there is no draft), `held` the tokens in the cache at the end.
    """

    passes: Sequence[Pass]
    made: Sequence[int]
    rounds: Sequence[Sequence[Pass]] | None = None
    held: int | None = None

    def proposed(self, prompt: int) -> tuple[int, ...]:
        """The proposed tokens of each pass: what it submitted beyond the newest token, or beyond the prompt."""
        needed = (prompt, *(1 for _ in self.passes[1:]))
        return tuple(max(0, each.submitted - needs) for each, needs in zip(self.passes, needed, strict=True))

    def counts(self, prompt: int, draft_kv_bytes: int | None) -> ProposalCounts:
        """What the record's figures are made of, for a prompt of so many tokens."""
        drafted = None if self.rounds is None else [made for each in self.rounds for made in each]
        return ProposalCounts(
            made=tuple(self.made),
            proposed=self.proposed(prompt),
            submitted=sum(made.submitted for made in self.passes),
            draft_passes=None if drafted is None else len(drafted),
            draft_submitted=None if drafted is None else sum(made.submitted for made in drafted),
            draft_kv_bytes=draft_kv_bytes,
        )

    def proof(self, prompt: int, most: int | None) -> Proof:
        """Hold the passes against the promise, for a prompt of so many tokens.

        Each pass submits the newest token and at most `most` proposed ones (None: any number) to a cache of all tokens
        before it, from which what was rejected has been taken out again. It makes one token more than it accepts. The
        draft makes one pass for each token that it proposes.
        """
        wrong: list[str] = []
        length = prompt
        for index, made in enumerate(self.passes):
            tokens = self.made[index] if index < len(self.made) else 0
            past = length - 1 if index else 0
            proposed = made.submitted - (length - past)
            right = made.past_before == past and made.past_after == past + made.submitted
            if not right or proposed < 0 or (most is not None and proposed > most) or not 1 <= tokens <= proposed + 1:
                wrong.append(
                    f"pass {index}: submitted {made.submitted}, past {made.past_before} -> {made.past_after}, made"
                    f" {tokens}, where a past of {past} tokens belongs"
                )
            if self.rounds is not None and (
                index >= len(self.rounds)
                or tuple(self.rounds[index]) != draft_round(length, proposed, first=index == 0)
            ):
                wrong.append(f"pass {index}: the draft did not propose its {proposed} tokens one pass after another")
            length += tokens
        if len(self.made) != len(self.passes):
            wrong.append(f"{len(self.passes)} passes made tokens {len(self.made)} times")
        if self.held is not None and self.held != length - 1:
            wrong.append(f"the cache holds {self.held} tokens at the end, where {length - 1} belong")
        drafted = sum(map(len, self.rounds or ()))
        return Proof(len(self.passes) + drafted, len(wrong), wrong[0] if wrong else None)


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
