"""Do decoding and one pass over the finished text give the same log-probabilities? The figures and the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvbench.analysis.output_verdict import MOST_STEPS, QUANTISED_CACHE
from kvbench.records.agreement_figures import AgreementVerdict
from kvbench.records.rescoring import Rescore, RescoreError, RescorePoint, RescoreSamples, RescoreWay, ScoredSequence
from kvbench.rounding_limits import RESCORE_TWO, allowed_rescore, allowed_rescore_at_worst, outer_gate, resolution
from kvbench.statistics import slope_interval

RATIO = 1.2  # of two probabilities: beyond it, or under its inverse, is what clipped objectives begin to cut off
LARGEST_K3 = 1e100  # no more is a number that anyone could read
MOST_POINTS = 200  # of the series by position
ANOTHER_COMPUTATION = 4.0  # times the error of reordered products: as agreement has it
LEAST = 1e-12  # nats: a token whose probability is 1 moves by nothing
PER = 1000  # tokens, of the drift
FITS = 0.2  # of the difference: what is left of it where a known mistake explains it

Numbers = NDArray[np.float64]


def judge_rescore(samples: RescoreSamples) -> Rescore:
    """The verdict on one arm, or on log-probabilities from elsewhere, with the figures that it rests on."""
    sequences = samples.sequences
    positions = sum(len(each.decoded) for each in sequences)
    seen: dict[str, Any] = {"arm": samples.arm, "sequences": len(sequences), "positions": positions}
    if (why_not := _not_finite(samples)) or not positions:
        return _not_judged(seen, why_not or "no token was decoded")
    level = _Level.of(samples)
    differences = [_array(each.scores.rescored) - _array(each.decoded) for each in sequences]
    figures = (
        seen
        | _figures(differences)
        | _noise_figures(level)
        | {
            "ways": tuple(_ways(samples, level)),
            "by_position": tuple(_by_position(level, differences)),
            "differences": tuple(tuple(each.tolist()) for each in differences),
        }
    )
    if level.sigma is None:
        reasons = "; ".join(f"{way.name}: {way.skipped}" for way in samples.ways) or "no other order of summing"
        return _not_judged(figures, f"what rounding alone does could not be measured ({reasons})")
    errors = [_array(each.decoded) - _array(_reference(each, samples)) for each in sequences]
    ratios = [level.ratios(each, error) for each, error in zip(sequences, errors, strict=True)]
    error = _error(samples, ratios)
    fault = _fault(error, positions, experts=samples.experts)
    verdict: AgreementVerdict | None = "MISMATCH" if fault else "EQUAL_WITHIN_ROUNDING"
    if not any(bool(each.any()) for each in differences):
        verdict = "IDENTICAL"
    differs_by = advice = ""
    if verdict == "MISMATCH" and _explained(samples, level):
        verdict, differs_by = None, QUANTISED_CACHE
        fault = (
            f"it differs by the cache's own quantisation ({samples.cache}): a plain cache with keys and values rounded"
            " alike gives the same, up to rounding"
        )
    figures["error"] = error
    figures |= dict(zip(("first_beyond", "first_beyond_sequence"), _first_beyond(samples, ratios, error), strict=True))
    if verdict == "MISMATCH":
        advice = _known_mistake(samples) or ""
    found = Rescore(**figures, verdict=verdict, differs_by=differs_by, detail="", advice=advice)
    return found.model_copy(update={"detail": _detail(samples, found, fault)})


# What rounding makes.


@dataclass(frozen=True)
class _Level:
    """How far a log-probability moves by rounding: `sigma` times its weight, and never less than `floor`.

    `usual` is the mean of rounding's own errors in that measure, at least 1; `others` the other orders' differences
    from the usual one, by name and sequence.
    """

    sigma: float | None  # nats; None where nothing was measured
    floor: float
    usual: float
    others: dict[str, dict[int, Numbers]]
    left_out: dict[str, str]

    @classmethod
    def of(cls, samples: RescoreSamples) -> _Level:
        rms = math.sqrt(np.mean([each.scores.logit_rms**2 for each in samples.sequences]))
        largest = max(each.scores.largest_logit for each in samples.sequences)
        floor = LEAST
        if samples.from_elsewhere:  # somebody's own softmax rounds to float32
            floor = resolution("float32") / 2 * largest
        left_out = {way.name: way.skipped for way in samples.ways if way.skipped}
        measured = [(number, each) for number, each in enumerate(samples.sequences) if each.scores.others]
        errors = dict[str, list[Numbers]]()
        others = dict[str, dict[int, Numbers]]()
        weights = [_array(each.scores.weights) for _, each in measured]
        if samples.reference:
            errors[""] = [_array(each.scores.rescored) - _array(_reference(each, samples)) for _, each in measured]
        for way in samples.ways:
            if way.skipped:
                continue
            made = [_array(each.scores.others[way.name]) for _, each in measured]
            rows = [row - _array(_reference(each, samples)) for row, (_, each) in zip(made, measured, strict=True)]
            usual = [
                _spread(some, weights) for name, some in errors.items() if name == "" or _by_product(samples, name)
            ]
            why = _why_left_out(samples, _spread(rows, weights), usual, largest, by_product=way.by_product)
            if why:
                left_out[way.name] = why
                continue
            errors[way.name] = rows
            others[way.name] = {
                number: row - _array(each.scores.rescored) for row, (number, each) in zip(made, measured, strict=True)
            }
        if not errors:
            return cls(None, floor, 1.0, others, left_out)
        sigma = max(
            float(np.mean([_spread(rows, weights) for rows in errors.values()])), resolution(samples.dtype) * rms / 4
        )
        level = cls(sigma, floor, 1.0, others, left_out)
        own = [
            level.ratios(each, row) for rows in errors.values() for (_, each), row in zip(measured, rows, strict=True)
        ]
        return cls(sigma, floor, max(1.0, float(np.concatenate(own).mean())), others, left_out)

    def largest_way(self) -> list[Numbers]:
        """The differences of the order of summing that makes the largest, by sequence; empty where none is known."""
        ways = [list(by_sequence.values()) for by_sequence in self.others.values()]
        return max(ways, key=lambda rows: float(np.abs(np.concatenate(rows)).mean()), default=[])

    def ratios(self, sequence: ScoredSequence, error: Numbers) -> Numbers:
        """Errors of a sequence's log-probabilities in multiples of those that rounding makes."""
        assert self.sigma is not None
        scale: Numbers = (
            np.hypot(self.sigma * _array(sequence.scores.weights), self.floor + sequence.written_to) * self.usual
        )
        return np.abs(error) / scale


def _by_product(samples: RescoreSamples, name: str) -> bool:
    return any(way.name == name and way.by_product for way in samples.ways)


def _spread(rows: Sequence[Numbers], weights: Sequence[Numbers]) -> float:
    """The size of the logits' errors behind these of log-probabilities, in nats."""
    whole = float(np.concatenate(weights).sum())
    return float(np.abs(np.concatenate(rows)).sum()) / whole if whole else 0.0


def _why_left_out(
    samples: RescoreSamples, spread: float, usual: Sequence[float], largest: float, *, by_product: bool
) -> str:
    """Why another order of summing is no measure of rounding, in words; empty when it is one."""
    if not math.isfinite(spread):
        return "it gave log-probabilities that are not finite numbers"
    of_products = float(np.mean(usual)) if usual else 0.0
    exact = bool(samples.reference) or samples.dtype in ("float32", "float64")
    if exact and not by_product and of_products and spread > ANOTHER_COMPUTATION * of_products:
        times = spread / of_products
        return f"another computation in this model: its error is {times:.3g} times that of reordered products"
    if not samples.reference and spread > outer_gate(samples.dtype) * largest:
        return f"another computation in this model: {spread:.1e} nats is more than rounding does"
    return ""


# The figures.


def _figures(differences: Sequence[Numbers]) -> dict[str, float | None]:
    every = np.concatenate(differences)
    places = np.concatenate([np.arange(len(each)) for each in differences])
    drift = slope_interval(places.tolist(), np.abs(every).tolist())
    return {
        "mean_abs_difference": float(np.abs(every).mean()),
        "max_abs_difference": float(np.abs(every).max()),
        "k1": float(-every.mean()) + 0.0,  # no negative zero
        "k3": _k3(every),
        "share_over": _share_over(every),
        "drift_per_1000": None if drift is None else drift.value * PER,
        "drift_low": None if drift is None else drift.low * PER,
        "drift_high": None if drift is None else drift.high * PER,
    }


def _noise_figures(level: _Level) -> dict[str, float | None]:
    rows = level.largest_way()
    if not rows:
        return dict.fromkeys(("noise_mean_abs", "noise_k3", "noise_share_over"))
    every = np.concatenate(rows)
    return {
        "noise_mean_abs": float(np.abs(every).mean()),
        "noise_k3": _k3(every),
        "noise_share_over": _share_over(every),
    }


def _k3(differences: Numbers) -> float | None:
    """Schulman's estimator; expm1 keeps it exact for small differences."""
    with np.errstate(over="ignore"):
        value = float((np.expm1(differences) - differences).mean())
    return value if value < LARGEST_K3 else None


def _share_over(differences: Numbers) -> float:
    return float((np.abs(differences) > math.log(RATIO)).mean())


def _ways(samples: RescoreSamples, level: _Level) -> Iterator[RescoreWay]:
    for way in samples.ways:
        rows = level.others.get(way.name, {})
        mean = float(np.abs(np.concatenate(list(rows.values()))).mean()) if rows else None
        yield RescoreWay(way=way.name, mean_abs_difference=mean, skipped=level.left_out.get(way.name, ""))


def _by_position(level: _Level, differences: Sequence[Numbers]) -> Iterator[RescorePoint]:
    longest = max(map(len, differences))
    size = -(-longest // MOST_POINTS)
    noise = level.largest_way()
    for begin in range(0, longest, size):
        some = np.abs(np.concatenate([row[begin : begin + size] for row in differences]))
        beside = np.abs(np.concatenate([row[begin : begin + size] for row in noise])) if noise else np.array([])
        yield RescorePoint(
            position=begin,
            mean_abs_difference=float(some.mean()),
            max_abs_difference=float(some.max()),
            rounding_mean_abs=float(beside.mean()) if len(beside) else None,
        )


# The verdict.


def _error(samples: RescoreSamples, ratios: Sequence[Numbers]) -> RescoreError:
    measured = bool(samples.reference)
    # One router that chose otherwise may decide the mean of a whole answer, and is no fault.
    counted = [np.minimum(row, RESCORE_TWO) for row in ratios] if samples.experts else ratios
    limits = [allowed_rescore(len(row), sequences=len(ratios), measured=measured) for row in counted]
    means = [float(row.mean()) / limit for row, limit in zip(counted, limits, strict=True)]
    worst = max(range(len(ratios)), key=means.__getitem__)
    worst_of = max(range(len(ratios)), key=lambda each: float(ratios[each].max()))
    place = int(np.argmax(ratios[worst_of]))
    every = np.concatenate(ratios)
    return RescoreError(
        reference=samples.reference,
        ratio=float(np.concatenate(counted).mean()),
        allowed=allowed_rescore(len(every), measured=measured),
        sequence_ratio=float(counted[worst].mean()),
        sequence_allowed=limits[worst],
        sequence=samples.sequences[worst].sequence,
        worst_ratio=float(ratios[worst_of][place]),
        worst_allowed=allowed_rescore_at_worst(len(every), measured=measured),
        second_ratio=float(np.partition(every, -2)[-2]) if len(every) > 1 else 0.0,
        second_allowed=allowed_rescore_at_worst(len(every), second=True, measured=measured),
        worst_position=place,
        worst_sequence=samples.sequences[worst_of].sequence,
    )


def _fault(error: RescoreError, positions: int, *, experts: bool) -> str:
    """The widest of what is larger than rounding, in words: everything, one sequence, or one position."""
    if error.ratio > error.allowed:
        return f"its error is {_times(error.ratio)} rounding's own over all {positions:,} positions"
    if error.sequence_ratio > error.sequence_allowed:
        return f"its error is {_times(error.sequence_ratio)} rounding's own in prompt {error.sequence + 1}"
    # Where a router took another expert, a position is wrong by far more than rounding, in a sound arm too.
    alone = error.worst_ratio > error.worst_allowed or error.second_ratio > error.second_allowed
    if alone and not experts:
        return (
            f"its error is {_times(error.worst_ratio)} rounding's own at position {error.worst_position} of the answer"
            f" to prompt {error.worst_sequence + 1}, and {_times(error.second_ratio)} at the second worst"
        )
    return ""


def _first_beyond(
    samples: RescoreSamples, ratios: Sequence[Numbers], error: RescoreError
) -> tuple[int, int] | tuple[None, None]:
    """The earliest position of all answers at which the difference alone is too large, and its sequence."""
    beyond = [(row > error.second_allowed, each.sequence) for row, each in zip(ratios, samples.sequences, strict=True)]
    return min(((int(np.argmax(row)), sequence) for row, sequence in beyond if bool(row.any())), default=(None, None))


def _explained(samples: RescoreSamples, level: _Level) -> bool:
    """Whether a quantised cache does what its quantiser does and nothing else."""
    if not samples.cache or samples.worst_steps is None or samples.worst_steps > MOST_STEPS:
        return False
    kept = [(each, each.kept) for each in samples.sequences if each.kept is not None]
    if len(kept) < len(samples.sequences):
        return False
    ratios = [level.ratios(each, _array(each.decoded) - _array(row)) for each, row in kept]
    return not _fault(_error(samples, ratios), 1, experts=samples.experts)


def _known_mistake(samples: RescoreSamples) -> str | None:
    """What is wrong with log-probabilities that are others than they should be in a way that is known."""
    decoded = [_array(each.decoded) for each in samples.sequences]
    rescored = [_array(each.scores.rescored) for each in samples.sequences]
    apart = _apart(decoded, rescored)
    if not samples.from_elsewhere:
        return None
    for factor, name in ((math.log(10), "decimal"), (math.log(2), "binary")):
        if _apart([row * factor for row in decoded], rescored) < FITS * apart:
            return f"they are {name} logarithms: multiply them by {factor:.6g}"
    for shift, where in ((1, "before"), (-1, "after")):
        moved = [(a[max(0, shift) :][: len(a) - 1], b[max(0, -shift) :][: len(b) - 1])
                 for a, b in zip(decoded, rescored, strict=True) if len(a) > 1]  # fmt: skip
        if moved and _apart([a for a, _ in moved], [b for _, b in moved]) < FITS * apart:
            return f"each fits the token {where} the one that it stands at: shift them by one position"
    others = [row for row in samples.temperatures.items() if _apart(decoded[:1], [_array(row[1])]) < FITS * apart]
    if others:
        temperature = others[0][0]
        return (
            f"they are those of a temperature of {temperature:g}, not of {samples.temperature:g}: give"
            f" temperature={temperature:g}, in the shell --temperature {temperature:g}"
        )
    return None


def _apart(first: Sequence[Numbers], second: Sequence[Numbers]) -> float:
    return float(np.abs(np.concatenate(list(first)) - np.concatenate(list(second))).mean())


# In words.


def _detail(samples: RescoreSamples, found: Rescore, fault: str) -> str:
    assert found.error is not None
    error = found.error
    over = f"over {found.positions:,} positions of {found.sequences:,} sequence" + "s" * (found.sequences != 1)
    text = (
        f"mean difference {found.mean_abs_difference:.2e} nats {over}, where another order of summing makes"
        f" {found.noise_mean_abs or 0.0:.2e}; error {_times(error.ratio)} rounding's own, allowed {error.allowed:.2f};"
        f" at the two worst positions {_number(error.worst_ratio)} and {_number(error.second_ratio)}, "
    )
    if samples.experts:
        text += "which are not judged, since routers at near-ties choose other experts"
    else:
        text += f"allowed {error.worst_allowed:.0f} and {error.second_allowed:.0f}"
    beside = f"the same pass in {error.reference}" if error.reference else "one pass in the model's own type"
    text += f"; against {beside}"
    if samples.without_reference:
        text += f", since {samples.without_reference}"
    if written := max(each.written_to for each in samples.sequences):
        text += f"; the log-probabilities were written to within {written:.1e} nats"
    text += f"; {_drift(found)}"
    if fault:
        text += f"; {fault}"
    if fault and found.first_beyond is not None:
        text += (
            f"; the first position beyond rounding is {found.first_beyond} of the answer to prompt"
            f" {(found.first_beyond_sequence or 0) + 1}"
        )
    return text + (f"; {found.advice}" if found.advice else "")


def _drift(found: Rescore) -> str:
    if found.drift_per_1000 is None or found.drift_low is None or found.drift_high is None:
        return "too short for a drift"
    interval = f"[{found.drift_low:.1e}, {found.drift_high:.1e}] nats over 1,000 tokens"
    if found.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING"):  # surer tokens move less, wherever they stand
        return f"no drift beyond rounding ({interval})"
    if found.drift_low > 0 or found.drift_high < 0:
        how = "grows" if found.drift_low > 0 else "shrinks"
        return f"the difference {how} along the answer, by {abs(found.drift_per_1000):.1e} {interval}"
    return f"no drift with the position ({interval})"


def _not_finite(samples: RescoreSamples) -> str:
    for each in samples.sequences:
        for name, row in (("decoding", each.decoded), ("one pass over the text", each.scores.rescored)):
            place = next((place for place, value in enumerate(row) if not math.isfinite(value)), None)
            if place is not None:
                remedy = "" if samples.dtype in ("float32", "float64") else "; try model.dtype=float32 or bfloat16"
                return (
                    f"the log-probability that {name} gave at position {place} of the answer to prompt"
                    f" {each.sequence + 1} is not a finite number{remedy}"
                )
    return ""


def _not_judged(figures: dict[str, Any], why: str) -> Rescore:
    nothing: dict[str, Any] = dict.fromkeys(name for name, each in Rescore.model_fields.items() if each.is_required())
    return Rescore(**(nothing | figures | {"verdict": None, "detail": f"not judged: {why}"}))


def _reference(sequence: ScoredSequence, samples: RescoreSamples) -> tuple[float, ...]:
    if not samples.reference:
        return sequence.scores.rescored
    assert sequence.scores.reference is not None
    return sequence.scores.reference


def _array(numbers: Sequence[float]) -> Numbers:
    return np.asarray(numbers, dtype=float)


def _times(ratio: float) -> str:
    return f"{_number(ratio)} times"


def _number(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"
