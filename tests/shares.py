"""When a share counted in a simulation is too far from what it should be to be chance."""

from __future__ import annotations

from scipy.stats import binom

FALSE_ALARM = 1e-3  # probability that a correct instrument fails a family of `checks`, over the choice of its seeds


def too_few(hits: int, trials: int, share: float, checks: int = 1) -> bool:
    """Whether so few hits refute a probability of at least `share`.

    The binomial tail is exact. Bonferroni's correction keeps the whole family of `checks` at `FALSE_ALARM`: with one
    check the bound is 3.1 standard errors below `share`, with 400 it is 4.6.
    """
    return bool(binom.cdf(hits, trials, share) < FALSE_ALARM / checks)


def too_many(hits: int, trials: int, share: float, checks: int = 1) -> bool:
    """Whether so many hits refute a probability of at most `share`; see `too_few`."""
    return bool(binom.sf(hits - 1, trials, share) < FALSE_ALARM / checks)
