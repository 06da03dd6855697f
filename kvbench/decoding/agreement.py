"""Do arms compute the same? Judged on one token path, so that one early difference does not decide the rest.

Every arm follows the first arm's tokens, and its logits are held against a reference: the same model in a wider type
where there is one, else the first arm itself. How large an error rounding makes is measured beside it: by the first
arm's own error, and by that of the same computation summed in other orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from kvbench.decoding.compared_steps import Edges, compared_steps
from kvbench.decoding.fault_place import SinglePass, Suspect, locate
from kvbench.decoding.logit_differences import (
    Logits,
    errors,
    finite,
    largest_difference,
    largest_logit,
    overall,
    possible,
    rms,
    step_figures,
)
from kvbench.decoding.protocol import Decoded, Decoder, PromptBatch, Unobserved
from kvbench.decoding.rounding import OtherOrder, other_orders
from kvbench.decoding.routing import Flips, Routes
from kvbench.decoding.sampling import Forced
from kvbench.errors import reason_of
from kvbench.records.agreement_figures import (
    AgreementFigures,
    AgreementStep,
    ErrorFigures,
    FaultPlace,
    NoiseWay,
    ReferenceDistance,
    RoundTripFigures,
    RoutingFigures,
)
from kvbench.rounding_limits import allowed_at_worst, allowed_ratio, outer_gate, resolution

MOST_LOGITS = 2**28  # numbers kept of one arm at a time; more steps are compared in several goes
LEAST_RATIO = 1e-3  # that an error is taken to be of rounding's own, where it is exactly 0
NOT_THE_MODEL = 0.5  # of the largest logit, at the prefill: what no type's rounding makes
ANOTHER_COMPUTATION = 4.0  # times the error that reordered products make: no other order of the same sums


@dataclass(frozen=True)
class Compared:
    """The arms of a run, as they are held against each other: `decoder(arm, forced)` follows a path that is given."""

    batches: Sequence[PromptBatch]
    batch_members: Sequence[Sequence[int]]  # prompt indices of each batch
    dtype: str  # that the model computes in
    caches: Sequence[str]  # the kind of each arm
    takes_masks: bool  # whether the first arm's attention can leave padding out
    vocabulary: int
    edges: Edges  # context lengths behind which something is computed otherwise
    whole: bool  # whether all steps are compared
    # Tokens behind a new token, from the prompt's length and the new token's index: messages may stand between.
    context: Callable[[int, int], int]
    # The decoder of an arm; `attention` takes the place of the arm's own.
    decoder: Callable[..., Decoder]
    # The same in plain PyTorch and at exact lengths, whatever the arm's engine: for shapes that come once. `exact`
    # leaves a quantised cache out too.
    unprepared: Callable[..., Decoder]
    # What an arm with a quantised cache is held against, and its worst error in steps; None for other arms.
    round_trip: Callable[[int, Forced], tuple[Decoder, Callable[[Decoded], float]] | None]
    # An implementation of the same attention other than the first arm's; None where there is none that fits.
    second_attention: Callable[[PromptBatch], str | None]
    # Recompute by the same model in a wider type, and that type; None where rounding can be measured without it or
    # there is no room for one.
    wider: Callable[[PromptBatch, Forced], Logits] | None = None
    wider_dtype: str = ""
    first_is_plain: bool = False  # whether the first arm recomputes in plain PyTorch, as `unprepared` does
    without_wider: str = ""  # why there is none, in words
    models: Sequence[Any] = ()  # whose routers choose among `experts`; with none there is nothing to choose
    experts: int = 0
    single: SinglePass | None = None  # what shows where an arm's cache is wrong; None without it
    chunk: int | None = None  # tokens in which a prompt is handed over; None: in one pass
    repeats: Sequence[bool] = ()  # of each arm: whether an engine repeats its passes, into which nothing can look
    wanted_steps: tuple[int, ...] = ()  # compared whatever else is


@dataclass(frozen=True)
class Divergence:
    """The first new token at which two free runs differ."""

    step: int
    sequence: int  # prompt index


def compare(
    run: Compared,
    tokens: Sequence[Sequence[Sequence[int]]],
    tell: Callable[[int, int], None],
) -> list[AgreementFigures]:
    """Every arm but the first held against the first along its tokens, over all batches.

    `tokens` has each arm's free run: arm, prompt, token. `tell(done, total)` is told how far it is.
    """
    comparing = {arm: _Candidate(arm, divergences(tokens[0], tokens[arm])) for arm in range(1, len(tokens))}
    ways: dict[str, _Way] = {}
    parted = [each for candidate in comparing.values() for each in candidate.divergences]
    goes = list(_goes(run, tokens, parted))
    if run.wider is not None and (why_not := _why_not_wider(run, goes[0])):
        run = replace(run, wider=None, without_wider=why_not)
    total = len(goes) * (len(comparing) + 1)
    for number, go in enumerate(goes):
        done = number * (len(comparing) + 1)
        tell(done, total)
        go = _routed(run, go)
        measured = _rounding(run, go, ways)
        for place, candidate in enumerate(comparing.values()):
            tell(done + 1 + place, total)
            judged, flips = _routed_run(run, candidate.arm, go)
            candidate.take(run, go, measured, judged, tokens)
            candidate.see(go, measured.flips, flips)
    run.decoder(0).prepare(None)  # puts the first arm's own attention back
    found = []
    for candidate in comparing.values():
        figures = candidate.figures(run, list(ways.values()))
        found.append(replace(figures, place=_place(run, candidate, figures, tokens[0])))
    run.decoder(0).prepare(None)
    return found


def distances(
    run: Compared, tokens: Sequence[Sequence[Sequence[int]]], dtype: str, device: str
) -> list[ReferenceDistance]:
    """How far every arm is from the wider model's recompute on the first arm's path, over all batches."""
    assert run.wider is not None
    parted = [each for arm in tokens[1:] for each in divergences(tokens[0], arm)]
    found: list[list[AgreementStep]] = [[] for _ in tokens]
    for go in _goes(run, tokens, parted):
        reference = run.wider(go.batch, Forced(go.path, go.steps))
        for arm, steps in enumerate(found):
            steps += step_figures(reference, _followed(run.decoder, arm, go), go.steps, go.number)
    return [
        ReferenceDistance(arm=arm, dtype=dtype, device=device, steps=len(steps), **overall(steps))
        for arm, steps in enumerate(found)
    ]


@dataclass(frozen=True)
class _Go:
    """Some compared steps of one batch, as many as fit in memory together."""

    number: int  # the batch's
    batch: PromptBatch
    members: Sequence[int]
    path: torch.Tensor  # the first arm's tokens (rows, new tokens)
    steps: tuple[int, ...]
    rounding_steps: tuple[int, ...]  # of them those at which other orders of summing are tried
    routes: Routes  # the experts that the path's tokens go to


def _goes(run: Compared, tokens: Sequence[Sequence[Sequence[int]]], parted: Sequence[Divergence]) -> Iterator[_Go]:
    no_routes = Routes((), 0)
    for number, (batch, members) in enumerate(zip(run.batches, run.batch_members, strict=True)):
        path = common_path(batch, members, tokens[0])
        new_tokens = path.shape[1]
        wanted = {*run.wanted_steps, *(each.step for each in parted if each.sequence in members)}
        few = compared_steps(
            new_tokens,
            [[run.context(length, step) for step in range(new_tokens)] for length in sorted({*batch.lengths})],
            run.edges,
            batch=number,
            batches=len(run.batches),
            wanted=(step for step in wanted if step < new_tokens),
        )
        steps = tuple(range(new_tokens)) if run.whole else few
        most = max(1, MOST_LOGITS // (len(members) * max(1, run.vocabulary)))
        for begin in range(0, len(steps), most):
            some = steps[begin : begin + most]
            yield _Go(
                number, batch, members, path, some, tuple(step for step in some if step in few) or some[:1], no_routes
            )


def _routed(run: Compared, go: _Go) -> _Go:
    """The same with the experts that the reference sends its tokens to."""
    routes = Routes(run.models, run.experts)
    if run.experts:
        last = (go.path.shape[1] - 1,)
        with routes.noted(go.batch):
            if run.wider is not None:
                run.wider(go.batch, Forced(go.path, last))
            else:
                _run(run.unprepared, 0, replace(go, steps=last), exact=True)
    return replace(go, routes=routes)


def common_path(batch: PromptBatch, members: Sequence[int], tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    """The tokens (rows, new tokens) of a batch's prompts, on its device.

    A sequence that ended early goes on with its last token: any token can be followed, and no other is cut short.
    """
    rows = [list(tokens[index]) for index in members]
    longest = max(map(len, rows))
    return batch.input_ids.new_tensor([row + row[-1:] * (longest - len(row)) for row in rows])


def follow(decoder: Decoder, forced: Forced, batch: PromptBatch) -> Logits:
    """The logits of the compared steps on the path that `forced` holds the decoder to, on the host."""
    decoder.prepare(None)
    decoder.run(batch, forced.length, Unobserved())
    return forced.logits


def divergences(baseline: Sequence[Sequence[int]], candidate: Sequence[Sequence[int]]) -> list[Divergence]:
    """Where each sequence that differs does so first, the earliest of all in front; one that ends earlier, there."""
    found = []
    for sequence, (a, b) in enumerate(zip(baseline, candidate, strict=True)):
        step = next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if step is None and len(a) != len(b):
            step = min(len(a), len(b))
        if step is not None:
            found.append(Divergence(step, sequence))
    return sorted(found, key=lambda divergence: divergence.step)


# How large rounding's own error is.


def _why_not_wider(run: Compared, go: _Go) -> str:
    """Why a copy of the model in a wider type is no reference, in words; empty when it is one.

    What was put into a model from outside, such as another `forward`, may still lead from the copy to the model itself.
    """
    assert run.wider is not None
    try:
        first = _routed(run, replace(go, steps=(0,)))
        with first.routes.prescribed(go.batch):
            reference = run.wider(go.batch, Forced(go.path, (0,)))
        apart = errors(reference, plain := _followed(run.unprepared, 0, first, exact=True))
    except Exception as failure:  # whatever a copy fails with, the run can be judged without it
        return f"a copy in {run.wider_dtype} could not be run ({type(failure).__name__}: {reason_of(failure)})"
    relative = float(apart.max()) / largest_logit(plain)
    if relative == 0 or not relative < NOT_THE_MODEL:
        return f"a copy in {run.wider_dtype} is not the same model ({relative:.1e} apart)"
    return ""


@dataclass
class _Way:
    """One other order of summing, over all batches: its largest difference, or why it could not be tried."""

    order: OtherOrder
    max_abs: float | None = None
    max_rel: float | None = None
    skipped: str = ""

    def figures(self) -> NoiseWay:
        rel = None if self.skipped else self.max_rel
        return NoiseWay(way=self.order.name, noise_rel=rel, skipped=self.skipped)


@dataclass(frozen=True)
class _Measured:
    """What every arm is held against at some steps of one batch, and how large rounding's own error is there."""

    baseline: Logits  # of the first arm as it is timed
    flips: Flips  # of its routers
    reference: Logits
    level: torch.Tensor  # (steps, rows): the error that rounding makes
    first_errors: torch.Tensor  # (steps, rows): the first arm's own


def _rounding(run: Compared, go: _Go, ways: dict[str, _Way]) -> _Measured:
    """The reference, and the error of the same computation beside it: its own, and in other orders of summing."""
    baseline, flips = _routed_run(run, 0, go)
    reference = baseline
    if run.wider is not None:
        with go.routes.prescribed(go.batch):
            reference = run.wider(go.batch, Forced(go.path, go.steps))
    # An engine of the first arm has no part in what rounding is taken to be: were it wrong, it would excuse everyone.
    # Nor has a quantised cache, in which rounding tips codes.
    some = replace(go, steps=go.rounding_steps)
    plain = _followed(run.unprepared, 0, some, exact=True)
    at = [go.steps.index(step) for step in go.rounding_steps]
    beside = plain if run.wider is None else [reference[index] for index in at]
    scale = largest_logit(plain)
    samples = [] if run.wider is None else [errors(beside, plain)]
    by_product: list[torch.Tensor] = list(samples)
    for order in other_orders(takes_masks=run.takes_masks, second_attention=run.second_attention(go.batch)):
        way = ways.setdefault(order.name, _Way(order))
        if way.skipped:
            continue
        try:
            with order.context():
                logits = _followed(run.unprepared, 0, replace(some, batch=order.batch(go.batch)), order, exact=True)
        except Exception as failure:  # no such kernel, no memory for it, a model that it does not fit: the others stand
            way.skipped = f"{type(failure).__name__}: {reason_of(failure)}"
            continue
        logits = [each[: len(go.path)] for each in logits]
        error = errors(beside, logits)
        difference = largest_difference(plain, logits)
        way.skipped = _why_left_out(run, order, error, by_product, difference / scale)
        if way.skipped:
            continue
        way.max_abs = max(way.max_abs or 0.0, difference)
        way.max_rel = max(way.max_rel or 0.0, difference / scale)
        samples.append(error)
        if order.by_product:
            by_product.append(error)
    first_errors = errors(reference, baseline)
    return _Measured(baseline, flips, reference, _level(run, go, at, samples, reference, first_errors), first_errors)


def _why_left_out(
    run: Compared, order: OtherOrder, error: torch.Tensor, by_product: Sequence[torch.Tensor], rel: float
) -> str:
    """Why what came out is no measure of rounding, in words; empty when it is one."""
    if not bool(error.isfinite().all()):
        return "it gave logits that are not finite numbers"
    usual = float(torch.stack(list(by_product)).square().mean().sqrt()) if by_product else 0.0
    times = float(error.square().mean().sqrt()) / usual if usual else 0.0
    exact = run.wider is not None or run.dtype in ("float32", "float64")
    if exact and not order.by_product and times > ANOTHER_COMPUTATION:
        return f"another computation in this model: its error is {times:.3g} times that of reordered products"
    if rel > outer_gate(run.dtype) and run.wider is None:
        return f"another computation in this model: {rel:.1e} of the largest logit is more than rounding does"
    return ""


def _level(
    run: Compared,
    go: _Go,
    at: Sequence[int],
    samples: Sequence[torch.Tensor],
    reference: Logits,
    first_errors: torch.Tensor,
) -> torch.Tensor:
    """The error of rounding at every step and row: of all samples there; where there is none, of the whole row.

    A first arm in plain PyTorch is recompute itself: no step rounds less than it does there.
    """
    floor = resolution(run.dtype) * torch.stack([rms(possible(each.double())) for each in reference]) / 4
    if not samples:
        return floor
    known = torch.stack(list(samples)).square().mean(0).sqrt()
    level = known.square().mean(0).sqrt().expand(len(go.steps), -1).clone()
    if run.first_is_plain:
        level = torch.maximum(level, first_errors)
    level[at] = known
    return torch.maximum(level, floor)


# What is gathered of one candidate over all batches.


@dataclass
class _Candidate:
    arm: int
    divergences: Sequence[Divergence]
    by_step: list[AgreementStep] = field(default_factory=list)
    ratios: dict[int, list[tuple[int, float]]] = field(default_factory=dict)  # by prompt: step and ratio
    first_ratios: list[float] = field(default_factory=list)  # of the first arm itself
    round_trips: dict[int, RoundTripFigures] = field(default_factory=dict)
    partings: list[_Parting] = field(default_factory=list)
    compared_tokens: int = 0
    longest: int = 0  # tokens of the longest context
    not_finite: set[int] = field(default_factory=set)  # arms
    drawn_apart: float = 0.0
    choices: int = 0
    flips: int = 0
    reroutes: list[Reroute] = field(default_factory=list)

    def take(
        self, run: Compared, go: _Go, measured: _Measured, judged: Logits, tokens: Sequence[Sequence[Sequence[int]]]
    ) -> None:
        """Hold its logits on some steps of a batch against what was measured there."""
        steps = step_figures(measured.baseline, judged, go.steps, go.number)
        error = errors(measured.reference, judged)
        ratio = error / measured.level
        worst = ratio.max(1).values.tolist()
        self.by_step += [
            step.model_copy(update={"error_ratio": finite(value)}) for step, value in zip(steps, worst, strict=True)
        ]
        for row, sequence in enumerate(go.members):
            self.ratios.setdefault(sequence, []).extend(zip(go.steps, ratio[:, row].tolist(), strict=True))
        self.first_ratios += (measured.first_errors / measured.level).flatten().tolist()
        self.longest = max(self.longest, run.context(max(go.batch.lengths), go.path.shape[1] - 1))
        self.compared_tokens += len(go.steps) * len(go.members)
        for arm, logits in ((0, measured.baseline), (self.arm, judged)):
            if not all(bool(possible(each).isfinite().all()) for each in logits):
                self.not_finite.add(arm)
        scale = largest_logit(measured.baseline)
        for arm, logits in ((0, measured.baseline), (self.arm, judged)):
            figures = _round_trip(run, arm, go, logits, scale)
            if figures is not None:
                self._keep(figures)
        self.drawn_apart = max(self.drawn_apart, _drawn_apart(measured.baseline, judged))
        for divergence in self.divergences:
            if divergence.sequence in go.members and divergence.step in go.steps:
                self.partings.append(_parting(divergence, self.arm, go, measured.baseline, judged, tokens, scale))

    def see(self, go: _Go, first: Flips, own: Flips) -> None:
        """Note where routers of this arm, or of the first, would have chosen other experts."""
        self.choices += own.seen
        self.flips += own.count
        for flips in (first, own):
            if flips.first is not None:
                step, layer, row = flips.first
                place = Reroute(step, layer, go.members[row % len(go.members)])
                self.reroutes.append(place)

    def _keep(self, figures: RoundTripFigures) -> None:
        known = self.round_trips.get(figures.arm)
        if known is None or _beyond(figures.max_rel_logit_diff, known.max_rel_logit_diff):
            self.round_trips[figures.arm] = figures

    def figures(self, run: Compared, ways: Sequence[_Way]) -> AgreementFigures:
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
        )


class Reroute(NamedTuple):
    """The first place in a batch where a router would have sent a token elsewhere."""

    step: int
    layer: int
    sequence: int


def _place(
    run: Compared, candidate: _Candidate, figures: AgreementFigures, tokens: Sequence[Sequence[int]]
) -> FaultPlace | None:
    """Where a candidate first differs by more than rounding and what is seen there; None where it does not."""
    if figures.error is None or run.single is None:
        return None
    measured = bool(figures.error.reference)
    limit = allowed_at_worst(second=True, measured=measured)
    worst = max(ratio for row in candidate.ratios.values() for _, ratio in row)
    limit = limit if worst > limit else allowed_ratio(len(figures.by_step), measured=measured)
    wrong = sorted(
        (step, sequence) for sequence, row in candidate.ratios.items() for step, ratio in row if not ratio <= limit
    )
    if not wrong:
        return None
    step, sequence = wrong[0]
    number = next(number for number, members in enumerate(run.batch_members) if sequence in members)
    batch, members = run.batches[number], run.batch_members[number]
    row = list(members).index(sequence)
    path = common_path(batch, members, tokens)
    lengths = {
        index: batch.lengths[place]
        for batch, some in zip(run.batches, run.batch_members, strict=True)
        for place, index in enumerate(some)
    }
    longest = {
        index: batch.longest for batch, some in zip(run.batches, run.batch_members, strict=True) for index in some
    }
    guilty = {each for _, each in wrong}
    padded = {index for index in lengths if lengths[index] < longest[index]}
    context = run.context(lengths[sequence], step)
    go = _Go(number, batch, members, path, (step,), (step,), Routes((), 0))
    baseline = _run(run.unprepared, 0, go, exact=True)
    later = [ratio for each, ratio in candidate.ratios[sequence] if each >= step]
    suspect = Suspect(
        batch=batch,
        path=path,
        row=row,
        sequence=sequence,
        step=step,
        context=context,
        only_padded=bool(padded) and guilty <= padded and guilty != set(lengths),
        edge=run.edges.name(context) or run.edges.name(batch.longest + step),
        chunk=run.chunk if step == 0 and run.chunk and run.chunk < context else None,
        every_step=all(not ratio <= limit for ratio in later),
        baseline=baseline[0][row],
        allowed=max(figures.noise_abs or 0.0, resolution(run.dtype) * largest_logit(baseline)) * limit,
    )
    try:
        return locate(suspect, run.dtype, partial(run.decoder, candidate.arm), run.single)
    except Exception:  # it is a help, without which the verdict stands: a model may refuse any of these passes
        return None


@dataclass(frozen=True)
class _Parting:
    """Where free runs part: how sure the first arm was, and by how much its or the candidate's free run contradicts
    what the same arm computes on the common path, relative to the largest logit."""

    divergence: Divergence
    margin: float | None
    unexplained: float


def _parting(
    divergence: Divergence,
    arm: int,
    go: _Go,
    baseline: Logits,
    judged: Logits,
    tokens: Sequence[Sequence[Sequence[int]]],
    scale: float,
) -> _Parting:
    row, at = list(go.members).index(divergence.sequence), go.steps.index(divergence.step)
    best = baseline[at][row].double().topk(2).values
    unexplained = 0.0
    for each, logits in ((0, baseline), (arm, judged)):
        own = tokens[each][divergence.sequence]
        if divergence.step < len(own):
            scores = logits[at][row].double()
            unexplained = max(unexplained, float(scores.max() - scores[own[divergence.step]]) / 2)
    return _Parting(divergence, finite(float(best[0] - best[1])), unexplained / scale)


def _drawn_apart(baseline: Logits, judged: Logits) -> float:
    """The largest total variation distance of the two distributions of a next token: the chance that a draw tips."""
    return max(
        float((a.double().softmax(-1) - b.double().softmax(-1)).abs().sum(-1).max()) / 2
        for a, b in zip(baseline, judged, strict=True)
    )


def _round_trip(run: Compared, arm: int, go: _Go, logits: Logits, scale: float) -> RoundTripFigures | None:
    forced = Forced(go.path, go.steps)
    made = run.round_trip(arm, forced)
    if made is None:
        return None
    decoder, worst_steps = made
    decoder.prepare(None)
    steps = worst_steps(decoder.run(go.batch, forced.length, Unobserved()))
    apart = largest_difference(logits, forced.logits)
    return RoundTripFigures(
        arm=arm, cache=run.caches[arm], max_rel_logit_diff=finite(apart / scale), worst_steps=finite(steps)
    )


def _routed_run(run: Compared, arm: int, go: _Go) -> tuple[Logits, Flips]:
    """An arm as it is timed, with the prescribed experts where its passes can be looked into."""
    takes_effect = not (run.repeats and run.repeats[arm])
    with go.routes.prescribed(go.batch, takes_effect=takes_effect) as flips:
        return _run(run.decoder, arm, go), flips


def _followed(
    decoder: Callable[..., Decoder], arm: int, go: _Go, order: OtherOrder | None = None, **how: Any
) -> Logits:
    with go.routes.prescribed(go.batch):
        return _run(decoder, arm, go, order, **how)


def _run(decoder: Callable[..., Decoder], arm: int, go: _Go, order: OtherOrder | None = None, **how: Any) -> Logits:
    repeats = len(go.batch.lengths) // len(go.members)  # rows may be there twice
    forced = Forced(go.path.repeat(repeats, 1), go.steps)
    return follow(decoder(arm, forced, attention=order.attention if order else None, **how), forced, go.batch)


def _geometric(ratios: Sequence[float]) -> float:
    return math.exp(math.fsum(math.log(max(ratio, LEAST_RATIO)) for ratio in ratios) / len(ratios))


def _beyond(value: float | None, other: float | None) -> bool:
    return other is not None and (value is None or value > other)
