"""How far the logits of two ways of decoding are apart; None is what is not a finite number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepFigures:
    """One step of a common token path, the worst over the rows; None is what is not a finite number."""

    step: int
    max_abs: float | None
    max_rel: float | None  # over the largest logit of the path
    kl: float | None
    flips: int  # rows whose likeliest token differs
    top2_margin: float | None


@dataclass(frozen=True)
class NoiseFigures:
    """What one other way of summing does to the baseline's logits; None with the reason where it could not be tried."""

    way: str
    max_abs: float | None
    max_rel: float | None = None
    skipped: str = ""


@dataclass(frozen=True)
class RoundTripFigures:
    """An arm with a quantised cache held against a plain one whose keys and values went through the same quantiser."""

    arm: int
    cache: str
    max_rel: float | None  # over the largest logit of the path; None: not a finite number
    worst_steps: float | None  # the quantiser's largest error, in steps of a grid over the whole range


@dataclass(frozen=True)
class AgreementFigures:
    """Teacher-forced comparison of a candidate arm with the baseline on one token path.

    Differences are over the last position's logits of every step checked. `noise_abs` is the baseline's own difference
    when the same prefixes are summed in other orders, the largest of `noise`: what rounding alone does here.
    """

    candidate_arm: int
    steps: int
    max_abs_logit_diff: float | None
    max_rel_logit_diff: float | None
    kl: float | None
    argmax_flips: int
    noise_abs: float | None
    noise_rel: float | None
    first_divergence: int | None  # the first new token that differs, of the sequence that decides
    divergence_sequence: int | None
    top2_margin: float | None  # baseline's, at that token
    dtype: str = "float32"
    sampled: bool = False  # whether the free runs draw their tokens
    penalised: bool = False  # whether they choose by scores other than the logits
    top2_margin_rel: float | None = None  # over the largest logit of the path
    by_step: tuple[StepFigures, ...] = ()
    noise: tuple[NoiseFigures, ...] = ()
    round_trips: tuple[RoundTripFigures, ...] = ()  # of the two arms those whose caches are quantised
    compared_tokens: int = 0  # steps times rows


@dataclass(frozen=True)
class ReferenceFigures:
    """One arm's logits against those of the same model computed in a wider type, on one token path."""

    arm: int
    dtype: str  # of the reference
    device: str  # where it was computed
    steps: int
    max_abs_logit_diff: float | None
    max_rel_logit_diff: float | None
    kl: float | None
    argmax_flips: int
