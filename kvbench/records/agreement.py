"""Parts of a record that tell whether two ways of decoding compute the same."""

from __future__ import annotations

from typing import Literal

from kvbench.records.part import Part

Verdict = Literal["IDENTICAL", "EQUAL_WITHIN_ROUNDING", "MISMATCH"]


class AgreementStep(Part):
    """One step of a common token path: the candidate's logits against the baseline's, the worst over the rows.

    `flips` counts rows whose likeliest token differs; `top2_margin` is the baseline's lead of its best logit over its
    second best, the smallest over the rows.
    """

    step: int  # index of the new token; 0 is the prefill's
    max_abs_logit_diff: float | None
    max_rel_logit_diff: float | None  # over the largest logit of the whole path
    kl: float | None  # nats
    flips: int
    top2_margin: float | None


class Agreement(Part):
    """Whether a candidate computes what the baseline computes, on the same token path.

    Relative differences are over the largest logit of the path. `noise_*` is what rounding alone does to the baseline,
    measured in this run; `allowed_rel` the largest relative difference that counts as rounding.
    """

    verdict: Verdict | None
    first_divergence: int | None
    top2_margin: float | None
    max_abs_logit_diff: float | None
    kl: float | None
    noise_abs: float | None
    steps: int
    detail: str
    max_rel_logit_diff: float | None = None
    noise_rel: float | None = None
    allowed_rel: float | None = None
    argmax_flips: int | None = None
    by_step: tuple[AgreementStep, ...] = ()


class ReferenceDistance(Part):
    """How far one arm's logits are from the same model computed in a wider type, on the same token path."""

    arm: int
    dtype: str  # of the reference
    steps: int
    max_abs_logit_diff: float | None
    max_rel_logit_diff: float | None
    kl: float | None
    argmax_flips: int
