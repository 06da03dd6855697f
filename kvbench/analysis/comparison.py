"""One arm against the baseline of the same run: ratios with intervals, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kvbench.analysis.estimates import BlockFigures, interval_fields
from kvbench.analysis.output_verdict import judge
from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.agreement_figures import AgreementFigures
from kvbench.records.part import Speedup
from kvbench.records.run_record import ArmRecord, Comparison, SpeedVerdict
from kvbench.statistics import geometric_mean, ratio_interval

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
