"""One arm against the baseline of the same run: whether it computes the same, ratios with intervals, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kvbench.analysis.estimates import BlockFigures, interval_fields, thinned
from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.agreement_figures import (
    Agreement,
    AgreementFigures,
    AgreementStep,
    AgreementVerdict,
    NoiseWay,
    RoundTrip,
)
from kvbench.records.part import Speedup, shared
from kvbench.records.run_record import ArmRecord, Comparison, SpeedVerdict
from kvbench.statistics import geometric_mean, ratio_interval

# The verdict on whether a candidate arm computes what the baseline computes.


# A candidate may differ by more than the other orders of summing that were tried, since a cached step runs
# matrix-vector kernels where the baseline runs matrix-matrix ones, but not by several times as much.
NOISE_MARGIN = 5.0

# Of one number: the distance from 1 to the next larger one, relative. A logit cannot be told more finely, so rounding
# is never taken to be less, even where every way tried gave the same bits. float64 models have float32's, because
# transformers' norms and rotary tables are float32 whatever the rest is; 8-bit activations are 127 steps of a row's
# largest.
RESOLUTION = {"float64": 2**-23, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7, "int8": 1 / 127}

# Whatever the noise: beyond these relative differences no sound computation in this type lands (worst seen over
# 64 steps, with room: 7e-6, 4e-3 and 3e-2). Without it a model that mistakes padding for text, whose measured "noise"
# is no rounding at all, would excuse anything.
OUTER_GATE = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-1}

# A quantiser that rounds to the nearest of its codes is off by half a step of a group's range; scales and zeros that
# are rounded to bfloat16 add one to 255 codes. More is not quantisation.
MOST_STEPS = 2.0
QUANTISED_CACHE = "quantised cache"

NOT_FINITE = "not judged: the logits are not finite numbers; try model.dtype=float32 or bfloat16"
NOT_CHECKED = Agreement(
    verdict=None,
    first_divergence=None,
    top2_margin=None,
    max_abs_logit_diff=None,
    kl=None,
    noise_abs=None,
    steps=0,
    detail="not checked (check.agreement=none, or the run ended before)",
)


def judge(figures: AgreementFigures | None) -> Agreement:
    """The verdict with the figures it rests on."""
    if figures is None:
        return NOT_CHECKED
    by_step, noise_ways = _by_step(figures), _noise_ways(figures)
    if figures.max_rel_logit_diff is None or figures.noise_rel is None:
        seen = {"steps": figures.steps, "by_step": by_step, "noise_ways": noise_ways}
        return NOT_CHECKED.model_copy(update={**seen, "detail": _not_judged(figures)})
    verdict: AgreementVerdict | None
    verdict = _verdict(figures.max_rel_logit_diff, parted_by(figures), figures.noise_rel, figures.dtype)
    round_trips, detail, differs_by = _round_trips(figures), _detail(figures, verdict), ""
    if verdict == "MISMATCH" and _explained(figures, round_trips):
        verdict, detail, differs_by = None, _loss(figures, round_trips), QUANTISED_CACHE
    derived = {"by_step": by_step, "noise_ways": noise_ways, "round_trips": round_trips}
    return Agreement(
        **(shared(Agreement, figures) | derived),
        verdict=verdict,
        detail=detail,
        differs_by=differs_by,
        allowed_rel=tolerance(figures.noise_rel, figures.dtype),
    )


def tolerance(noise_rel: float, dtype: str) -> float:
    """The largest relative logit difference that counts as rounding."""
    allowed = NOISE_MARGIN * max(noise_rel, RESOLUTION.get(dtype, RESOLUTION["bfloat16"]))
    return min(allowed, OUTER_GATE.get(dtype, OUTER_GATE["bfloat16"]))


def parted_by(figures: AgreementFigures) -> float:
    """The least relative logit difference with which the free runs can have parted where they did, 0 where unknown.

    A lead of m is only overturned when some logit moved by m / 2. On the common path that holds by arithmetic; free
    runs that part by more than the common path shows computed something else there, from a stale state for instance.
    """
    if figures.top2_margin_rel is None or figures.sampled or figures.penalised:
        return 0.0
    return figures.top2_margin_rel / 2


def _verdict(difference_rel: float, parted_rel: float, noise_rel: float, dtype: str) -> AgreementVerdict:
    difference_rel = max(difference_rel, parted_rel)
    if difference_rel == 0:
        return "IDENTICAL"
    return "EQUAL_WITHIN_ROUNDING" if difference_rel <= tolerance(noise_rel, dtype) else "MISMATCH"


def _round_trips(figures: AgreementFigures) -> tuple[RoundTrip, ...]:
    limit = tolerance(figures.noise_rel or 0.0, figures.dtype)
    return tuple(
        RoundTrip(
            **shared(RoundTrip, each),
            explains=each.max_rel_logit_diff is not None
            and each.max_rel_logit_diff <= limit
            and each.worst_steps is not None
            and each.worst_steps <= MOST_STEPS,
        )
        for each in figures.round_trips
    )


def _explained(figures: AgreementFigures, round_trips: Sequence[RoundTrip]) -> bool:
    """Whether every quantised arm does what its quantiser does, and the free runs no more than the common path."""
    apart = figures.max_rel_logit_diff or 0.0
    stale = parted_by(figures) > max(apart, tolerance(figures.noise_rel or 0.0, figures.dtype))
    return bool(round_trips) and all(each.explains for each in round_trips) and not stale


def _loss(figures: AgreementFigures, round_trips: Sequence[RoundTrip]) -> str:
    kinds = " and ".join(dict.fromkeys(each.cache for each in round_trips))
    remaining = max(each.max_rel_logit_diff or 0.0 for each in round_trips)
    limit = tolerance(figures.noise_rel or 0.0, figures.dtype)
    parted = "give the same tokens"
    if figures.first_divergence is not None:
        parted = f"part at new token {figures.first_divergence}"
    return (
        f"differs by the cache's own quantisation ({kinds}): {figures.max_rel_logit_diff or 0.0:.2%} of the largest"
        f" logit, {figures.argmax_flips} of {figures.compared_tokens} tokens differ on one token path, free runs"
        f" {parted}; a plain cache with keys and values rounded alike is within {remaining:.1e} (rounding allows"
        f" {limit:.1e})"
    )


def _by_step(figures: AgreementFigures) -> tuple[AgreementStep, ...]:
    """A few hundred of them at most, but for every one that flips a token; the worst and the last always."""
    steps = figures.by_step
    apart = [step.max_abs_logit_diff for step in steps]
    worst = max(range(len(steps)), key=lambda index: apart[index] or 0.0, default=0)
    kept = [index for index, step in enumerate(steps) if step.flips or apart[index] is None or index == worst]
    return tuple(thinned(steps, kept))


def _noise_ways(figures: AgreementFigures) -> tuple[NoiseWay, ...]:
    return tuple(NoiseWay(**shared(NoiseWay, way)) for way in figures.noise_ways)


def _not_judged(figures: AgreementFigures) -> str:
    if figures.max_rel_logit_diff is None:
        return NOT_FINITE
    reasons = "; ".join(f"{way.way}: {way.skipped}" for way in figures.noise_ways)
    return f"not judged: what rounding alone does could not be measured ({reasons})"


def _detail(figures: AgreementFigures, verdict: AgreementVerdict) -> str:
    limit = tolerance(figures.noise_rel or 0.0, figures.dtype)
    text = (
        f"largest relative logit difference {figures.max_rel_logit_diff:.1e} over {figures.steps} steps on one token"
        f" path; rounding alone {figures.noise_rel:.1e}{_largest_way(figures)}, allowed {limit:.1e}"
    )
    if figures.argmax_flips:
        text += f"; the likeliest token differs {figures.argmax_flips} times"
    if figures.first_divergence is None:
        return text + "; free runs give the same tokens"
    where = f"new token {figures.first_divergence}"
    if figures.divergence_sequence is not None:
        where += f" of prompt {figures.divergence_sequence + 1}"
    margin = "" if figures.top2_margin is None else f" where the two best logits are {figures.top2_margin:.1e} apart"
    return f"{text}; free runs part at {where}{margin}: {_cause(figures, verdict, limit)}"


def _largest_way(figures: AgreementFigures) -> str:
    tried = [way for way in figures.noise_ways if way.noise_rel is not None]
    if not tried:
        return ""
    largest = max(tried, key=lambda way: way.noise_rel or 0.0)
    return f" (the largest of {len(tried)} other orders of summing: {largest.way})"


def _cause(figures: AgreementFigures, verdict: AgreementVerdict, limit: float) -> str:
    if verdict == "MISMATCH":
        if (figures.max_rel_logit_diff or 0.0) <= limit:
            return "too far for rounding, so a free run computed something else than the common path does"
        return "a cache bug or another computation"
    if figures.sampled:
        return "a draw that rounding tipped"
    return "a near-tie of the scores after the penalty" if figures.penalised else "a near-tie"


# How fast a candidate arm is beside the baseline, and the verdict on that.


RATIO = "geometric mean of per-block ratios, Student-t interval on their logs"
LEAST_BLOCKS = 5  # from here on the interval's coverage is what it says, for block noise as seen on real machines
PEAK = "peak_allocated_bytes"

Place = Literal["above", "below", "inside", "across"]  # of an interval, beside the band in which a difference is none
OF_SPEEDS: dict[Place, SpeedVerdict] = {"above": "FASTER", "below": "SLOWER", "inside": "SAME", "across": "AMBIGUOUS"}


def compare_arms(
    arms: Sequence[ArmRecord],
    figures: Sequence[Sequence[BlockFigures]],
    candidate: int,
    agreement: AgreementFigures | None,
    invalid_because: Sequence[str],
) -> Comparison:
    """Arm `candidate` against arm 0; `invalid_because` names the failed checks of the run."""
    decode = speedup(
        [block.decode_tokens_per_s for block in figures[0]], [block.decode_tokens_per_s for block in figures[candidate]]
    )
    end_to_end = speedup(
        [block.end_to_end_tokens_per_s for block in figures[0]],
        [block.end_to_end_tokens_per_s for block in figures[candidate]],
    )
    return Comparison(
        baseline_arm=0,
        candidate_arm=candidate,
        speedup=decode,
        end_to_end_speedup=end_to_end,
        extra_memory_bytes=_extra_memory(arms[0], arms[candidate]),
        break_even_context=None,
        agreement=judge(agreement),
        verdict="INVALID" if invalid_because else verdict_of(decode),
        reasons=tuple(invalid_because),
    ).because(_without_memory(arms[0], arms[candidate]))


def speedup(baseline: Sequence[float | None], candidate: Sequence[float | None]) -> Speedup:
    """Candidate over baseline of paired rates, one pair per block; null when a block lacks one."""
    pairs = list(zip(baseline, candidate, strict=True))
    # A rate of 0 is a visit without tokens: its run is invalid, and a ratio of it says nothing.
    ratios = [new / old for old, new in pairs if old and new]
    if not ratios or len(ratios) < len(pairs):
        return Speedup(estimator=RATIO, value=None, n_blocks=len(ratios))
    if len(ratios) == 1:
        return Speedup(estimator=RATIO, value=geometric_mean(ratios), n_blocks=1)
    return Speedup(estimator=RATIO, **interval_fields(ratio_interval(ratios)), n_blocks=len(ratios))


def verdict_of(ratio: Speedup, relevance: float = RELEVANT_WITHIN_A_RUN) -> SpeedVerdict:
    """Five words, never a yes or no: the whole interval must lie beyond the band, or inside it, to say something."""
    low, high = ratio.ci_low, ratio.ci_high
    if low is None or high is None or ratio.n_blocks < LEAST_BLOCKS:
        return "INVALID"
    return OF_SPEEDS[place(low, high, relevance)]


def place(low: float, high: float, relevance: float) -> Place:
    """Where the whole interval of a ratio lies: beyond the band in which a difference is none, inside, or across."""
    least, most = 1 / (1 + relevance), 1 + relevance
    if low > most:
        return "above"
    if high < least:
        return "below"
    return "inside" if low >= least and high <= most else "across"


def _extra_memory(baseline: ArmRecord, candidate: ArmRecord) -> int | None:
    """Of the peaks. The caches' bytes do not stand in for them: a pass holds more than its cache."""
    ours, theirs = candidate.memory.peak_allocated_bytes, baseline.memory.peak_allocated_bytes
    return None if ours is None or theirs is None else ours - theirs


def _without_memory(baseline: ArmRecord, candidate: ArmRecord) -> dict[str, str]:
    """Why the difference is null, by the candidate's peak first."""
    why = candidate.memory.said_why(PEAK) or baseline.memory.said_why(PEAK)
    return {} if why is None else {"extra_memory_bytes": f"no peak of memory: {why}"}
