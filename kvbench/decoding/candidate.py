"""One arm held against the first: what is gathered over all batches, and the figures that a verdict rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kvbench.decoding.logit_differences import (
    Logits,
    errors,
    finite,
    largest_difference,
    largest_logit,
    overall,
    possible,
    step_figures,
)
from kvbench.decoding.protocol import Unobserved
from kvbench.decoding.rounding_level import Measured, Way
from kvbench.decoding.routing import Flips
from kvbench.decoding.sampling import Forced
from kvbench.decoding.token_path import Compared, Divergence, Stretch
from kvbench.records.agreement_figures import (
    AgreementFigures,
    AgreementStep,
    ErrorFigures,
    RoundTripFigures,
    RoutingFigures,
)

LEAST_RATIO = 1e-3  # that an error is taken to be of rounding's own, where it is exactly 0


@dataclass
class Candidate:
    """An arm beside the first, and what is gathered of it over all batches."""

    arm: int
    divergences: Sequence[Divergence]
    by_step: list[AgreementStep] = field(default_factory=list)
    ratios: dict[int, list[tuple[int, float]]] = field(default_factory=dict)  # by prompt: step and ratio
    first_ratios: list[float] = field(default_factory=list)  # of the first arm itself
    round_trips: dict[int, RoundTripFigures] = field(default_factory=dict)
    partings: list[Parting] = field(default_factory=list)
    compared_tokens: int = 0
    longest: int = 0  # tokens of the longest context
    not_finite: set[int] = field(default_factory=set)  # arms
    drawn_apart: float = 0.0
    choices: int = 0
    flips: int = 0
    reroutes: list[Reroute] = field(default_factory=list)

    def take(
        self,
        run: Compared,
        stretch: Stretch,
        measured: Measured,
        judged: Logits,
        tokens: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        """Hold its logits on some steps of a batch against what was measured there."""
        steps = step_figures(measured.baseline, judged, stretch.steps, stretch.number)
        error = errors(measured.reference, judged)
        ratio = error / measured.level
        worst = ratio.max(1).values.tolist()
        self.by_step += [
            step.model_copy(update={"error_ratio": finite(value)}) for step, value in zip(steps, worst, strict=True)
        ]
        for row, sequence in enumerate(stretch.members):
            self.ratios.setdefault(sequence, []).extend(zip(stretch.steps, ratio[:, row].tolist(), strict=True))
        self.first_ratios += (measured.first_errors / measured.level).flatten().tolist()
        self.longest = max(self.longest, run.context(max(stretch.batch.lengths), stretch.path.shape[1] - 1))
        self.compared_tokens += len(stretch.steps) * len(stretch.members)
        for arm, logits in ((0, measured.baseline), (self.arm, judged)):
            if not all(bool(possible(each).isfinite().all()) for each in logits):
                self.not_finite.add(arm)
        scale = largest_logit(measured.baseline)
        for arm, logits in ((0, measured.baseline), (self.arm, judged)):
            figures = _round_trip(run, arm, stretch, logits, scale)
            if figures is not None:
                self._keep(figures)
        self.drawn_apart = max(self.drawn_apart, _drawn_apart(measured.baseline, judged))
        for divergence in self.divergences:
            if divergence.sequence in stretch.members and divergence.step in stretch.steps:
                self.partings.append(_parting(divergence, self.arm, stretch, measured.baseline, judged, tokens, scale))

    def see(self, stretch: Stretch, first: Flips, own: Flips) -> None:
        """Note where routers of this arm, or of the first, would have chosen other experts."""
        self.choices += own.seen
        self.flips += own.count
        for flips in (first, own):
            if flips.first is not None:
                step, layer, row = flips.first
                place = Reroute(step, layer, stretch.members[row % len(stretch.members)])
                self.reroutes.append(place)

    def _keep(self, figures: RoundTripFigures) -> None:
        known = self.round_trips.get(figures.arm)
        if known is None or _beyond(figures.max_rel_logit_diff, known.max_rel_logit_diff):
            self.round_trips[figures.arm] = figures

    def figures(self, run: Compared, ways: Sequence[Way]) -> AgreementFigures:
        """Everything that a verdict rests on."""
        tried = [way for way in ways if not way.skipped]
        decisive = max(self.partings, key=lambda each: (each.unexplained, each.margin or 0.0), default=None)
        first = next(iter(self.divergences), None) if decisive is None else decisive.divergence
        return AgreementFigures(
            candidate_arm=self.arm,
            steps=len(self.by_step),
            batches=len(run.batches),
            **overall(self.by_step),
            noise_rel=max((way.max_rel for way in tried if way.max_rel is not None), default=None),
            noise_abs=max((way.max_abs for way in tried if way.max_abs is not None), default=None),
            first_divergence=None if first is None else first.step,
            divergence_sequence=None if first is None else first.sequence,
            top2_margin=None if decisive is None else decisive.margin,
            unexplained_rel=None if decisive is None or self.reroutes else decisive.unexplained,
            routing=self._routing(),
            drawn_apart=self.drawn_apart,
            dtype=run.dtype,
            by_step=tuple(self.by_step),
            noise_ways=tuple(way.figures() for way in ways),
            round_trips=tuple(self.round_trips.values()),
            compared_tokens=self.compared_tokens,
            not_finite=tuple(sorted(self.not_finite)),
            without_reference=run.without_wider,
            beyond=tuple(run.edges.beyond(self.longest)),
            error=self._error(run),
        )

    def _routing(self) -> RoutingFigures | None:
        first = min(self.reroutes, default=None)
        if first is None:
            return None
        return RoutingFigures(
            choices=self.choices, flips=self.flips, step=first.step, layer=first.layer, sequence=first.sequence
        )

    def _error(self, run: Compared) -> ErrorFigures | None:
        """None where nothing but the first arm's own 16 bits is there to hold it against."""
        if run.wider is None and run.dtype not in ("float32", "float64"):
            return None
        everything = [(step, ratio, sequence) for sequence, row in self.ratios.items() for step, ratio in row]
        if not all(math.isfinite(ratio) for _, ratio, _ in everything):
            return None
        worst = sorted(everything, key=lambda each: each[1], reverse=True)
        step, step_ratio, step_sequence = worst[0]
        of_sequences = {sequence: _geometric([ratio for _, ratio in row]) for sequence, row in self.ratios.items()}
        sequence = max(of_sequences, key=of_sequences.__getitem__)
        return ErrorFigures(
            reference=run.wider_dtype if run.wider is not None else "",
            ratio=_geometric([ratio for _, ratio, _ in everything]),
            samples=len(everything),
            first_arm_ratio=_geometric(self.first_ratios) if run.wider is not None else None,
            sequence_ratio=of_sequences[sequence],
            sequence=sequence,
            sequence_samples=len(self.ratios[sequence]),
            step_ratio=step_ratio,
            second_ratio=worst[1][1] if len(worst) > 1 else step_ratio,
            step=step,
            step_sequence=step_sequence,
            larger_steps=sum(ratio > 1 for _, ratio, _ in everything),
            free_experts=run.chooses_freely(self.arm),
        )


class Reroute(NamedTuple):
    """The first place in a batch where a router would have sent a token elsewhere."""

    step: int
    layer: int
    sequence: int


@dataclass(frozen=True)
class Parting:
    """Where two free runs part.

    `margin` is the first arm's lead of its best logit over the second; `unexplained` by how much its or the candidate's
    free run contradicts what the same arm computes on the common path, relative to the largest logit.
    """

    divergence: Divergence
    margin: float | None
    unexplained: float


def _parting(
    divergence: Divergence,
    arm: int,
    stretch: Stretch,
    baseline: Logits,
    judged: Logits,
    tokens: Sequence[Sequence[Sequence[int]]],
    scale: float,
) -> Parting:
    row, at = list(stretch.members).index(divergence.sequence), stretch.steps.index(divergence.step)
    best = baseline[at][row].double().topk(2).values
    unexplained = 0.0
    for each, logits in ((0, baseline), (arm, judged)):
        own = tokens[each][divergence.sequence]
        if divergence.step < len(own):
            scores = logits[at][row].double()
            unexplained = max(unexplained, float(scores.max() - scores[own[divergence.step]]) / 2)
    return Parting(divergence, finite(float(best[0] - best[1])), unexplained / scale)


def _drawn_apart(baseline: Logits, judged: Logits) -> float:
    """The largest total variation distance of the two distributions of a next token: the chance that a draw tips."""
    return max(
        float((a.double().softmax(-1) - b.double().softmax(-1)).abs().sum(-1).max()) / 2
        for a, b in zip(baseline, judged, strict=True)
    )


def _round_trip(run: Compared, arm: int, stretch: Stretch, logits: Logits, scale: float) -> RoundTripFigures | None:
    forced = Forced(stretch.path, stretch.steps)
    made = run.round_trip(arm, forced)
    if made is None:
        return None
    decoder, worst_steps = made
    decoder.prepare(None)
    steps = worst_steps(decoder.run(stretch.batch, forced.length, Unobserved()))
    apart = largest_difference(logits, forced.logits)
    return RoundTripFigures(
        arm=arm, cache=run.caches[arm], max_rel_logit_diff=finite(apart / scale), worst_steps=finite(steps)
    )


def _geometric(ratios: Sequence[float]) -> float:
    return math.exp(math.fsum(math.log(max(ratio, LEAST_RATIO)) for ratio in ratios) / len(ratios))


def _beyond(value: float | None, other: float | None) -> bool:
    return other is not None and (value is None or value > other)
