"""What habits of hand-written loops cost, where they are what is compared."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair, differing, of_arm, percent
from kvbench.analysis.estimates import RELEVANCE
from kvbench.capabilities import HABITS, MODES, habits_of
from kvbench.quantities import format_value
from kvbench.records.evidence import Sentence

MAY_DIFFER = ("mode", "habit")  # where anything else does too, a habit is not all that differs
NOTABLE_MEMORY = 0.1  # of the baseline's peak


def habit(pair: Pair) -> Sentence | None:
    """Habits that only the candidate has: their share of its time, and of memory where it is notable."""
    mine, theirs = (habits_of(arm.mode, arm.habit) for arm in (pair.candidate, pair.baseline))
    added = [name for name in HABITS if name in mine - theirs]
    alike = set(differing(pair.baseline, pair.candidate)) <= set(MAY_DIFFER)
    alike = alike and MODES[pair.baseline.mode].ours == MODES[pair.candidate.mode].ours
    ratio = pair.comparison.speedup
    if not added or theirs - mine or not alike or ratio.value is None or None in (ratio.ci_low, ratio.ci_high):
        return None
    low, high = 1 - (ratio.ci_high or 0.0), 1 - (ratio.ci_low or 0.0)
    named = _named(added)
    if pair.comparison.verdict == "SLOWER":
        text = f"{named} {percent(1 - ratio.value)} of a step [{percent(low)}, {percent(high)}]"
    elif pair.comparison.verdict == "SAME":
        text = f"{named} nothing that shows: the whole interval lies within ±{RELEVANCE:.0%}".replace("%", " %")
    else:
        return None
    evidence = [pair.at(f"speedup/{part}") for part in ("value", "ci_low", "ci_high")]
    extra, peak = pair.comparison.extra_memory_bytes, pair.baseline.memory.peak_allocated_bytes
    if extra is not None and peak and extra > NOTABLE_MEMORY * peak:
        text += f", and {format_value(extra, 'bytes')} more at the peak of memory"
        evidence += [pair.at("extra_memory_bytes"), *of_arm(pair.arms[0], "memory/peak_allocated_bytes")]
    return Sentence(code="habit", text=f"{text}.", evidence=tuple(evidence))


def _named(added: list[str]) -> str:
    if len(added) == 1:
        return f"The habit {added[0]} ({HABITS[added[0]].summary}) takes"
    return f"The habits {', '.join(added[:-1])} and {added[-1]} together take"
