"""What passes that check proposed tokens accept and submit, and what a shared beginning of prompts saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from kvbench.records.part import Estimate, Measured, Part, figure

NO_DRAFT = "the proposed tokens were looked up in the text, not written by a draft model"
UNTIMED = Estimate(estimator="median over blocks", value=None, n=0)


class Proposals(Measured):
    """One arm's proposed tokens, over the prompts of its untimed pass.

    A pass submits the newest token and the proposed ones, keeps those that the model would have written itself, and
    makes one more. So a pass that accepts none still makes a token, and each of the first ones submits the prompt too.
    """

    WHY_NULL = MappingProxyType(
        {
            "acceptance": "no token was proposed",
            "draft_parameters": "the draft's size is not known",
            **dict.fromkeys(("draft_model", "draft_passes", "draft_submitted_tokens"), NO_DRAFT),
            **dict.fromkeys(("draft_weights_bytes", "draft_kv_cache_bytes"), NO_DRAFT),
        }
    )

    passes: int = figure("passes", "count", "lower", "Forward passes of the model, the prefills included.")
    new_tokens: int = figure("new tokens", "tokens", "none", "New tokens of all sequences.")
    proposed_tokens: int = figure("proposed", "tokens", "none", "Tokens that were proposed and checked.")
    accepted_tokens: int = figure("accepted", "tokens", "higher", "Of those, the ones that were kept.")
    acceptance: float | None = figure(
        "acceptance", "ratio", "higher", "Accepted ÷ proposed tokens.", "proposed tokens", column="acceptance"
    )
    tokens_per_pass: float = figure(
        "tokens per pass",
        "tokens/pass",
        "higher",
        "New tokens ÷ forward passes of the model, the prefills included.",
        "proposed tokens",
        column="tokens_per_pass",
    )
    accepted_histogram: tuple[int, ...] = figure(
        "passes by accepted tokens", "count", "none", "Passes that accepted 0, 1, 2 … proposed tokens."
    )
    submitted_tokens: int = figure(
        "submitted", "tokens", "lower", "Tokens that all passes of the model submitted, prompts and rejected ones too."
    )
    draft_model: str | None
    draft_parameters: int | None = figure("draft, parameters", "count", "lower", "Weights of the draft model.")
    draft_passes: int | None = figure("draft, passes", "count", "lower", "Forward passes of the draft model.")
    draft_submitted_tokens: int | None = figure(
        "draft, submitted", "tokens", "lower", "Tokens that all passes of the draft submitted."
    )
    draft_weights_bytes: int | None = figure(
        "draft, weights",
        "bytes",
        "lower",
        "Bytes of the draft's weights beside the model's: 0 where it is the model itself.",
        "proposed tokens",
        column="draft_weights_bytes",
    )
    draft_kv_cache_bytes: int | None = figure(
        "draft, KV cache",
        "bytes",
        "lower",
        "The most bytes that the cache of the draft held after a pass.",
        "proposed tokens",
        column="draft_kv_cache_bytes",
    )
    pass_s: Estimate = figure(
        "time of a pass",
        "s",
        "lower",
        "Decode time ÷ passes after the first one, what the draft does before them included; median over blocks.",
        "proposed tokens",
        default=UNTIMED,
    )


class SharedPrefix(Part):
    """What a batch submits for its prompts when it computes their common beginning once; sums over all batches."""

    shared_tokens: int = figure(
        "shared tokens", "tokens", "none", "The longest beginning that all prompts of a batch have in common."
    )
    prefill_tokens: int = figure(
        "submitted in prefills",
        "tokens",
        "lower",
        "Tokens that the prefills submit: the beginning once for each batch, and the rest of every prompt.",
    )
    unshared_prefill_tokens: int = figure(
        "submitted without sharing", "tokens", "none", "Tokens of all prompts, which a batch without sharing submits."
    )


@dataclass(frozen=True)
class ProposalCounts:
    """What was counted over one sequence, of which `Proposals` is made."""

    made: tuple[int, ...]
    proposed: tuple[int, ...]
    submitted: int
    draft_passes: int | None
    draft_submitted: int | None
    draft_kv_bytes: int | None


def proposals_of(
    counts: Sequence[ProposalCounts],
    draft_model: str | None = None,
    draft_parameters: int | None = None,
    draft_weights_bytes: int | None = None,
) -> Proposals:
    """The figures over all sequences."""
    made = [tokens for each in counts for tokens in each.made]
    proposed = sum(tokens for each in counts for tokens in each.proposed)
    accepted = Counter(tokens - 1 for tokens in made)
    kept = sum(made) - len(made)
    drafted = draft_model is not None
    return Proposals(
        passes=len(made),
        new_tokens=sum(made),
        proposed_tokens=proposed,
        accepted_tokens=kept,
        acceptance=kept / proposed if proposed else None,
        tokens_per_pass=sum(made) / max(1, len(made)),
        accepted_histogram=tuple(accepted[count] for count in range(max(accepted, default=-1) + 1)),
        submitted_tokens=sum(each.submitted for each in counts),
        draft_model=draft_model,
        draft_parameters=draft_parameters,
        draft_passes=sum(each.draft_passes or 0 for each in counts) if drafted else None,
        draft_submitted_tokens=sum(each.draft_submitted or 0 for each in counts) if drafted else None,
        draft_weights_bytes=draft_weights_bytes,
        draft_kv_cache_bytes=max((each.draft_kv_bytes or 0 for each in counts), default=0) if drafted else None,
    ).because({} if drafted else {"draft_parameters": NO_DRAFT})
