"""The arms of a run held against the first one, and against the model in a wider type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvbench.decoding.agreement import FEW_STEPS, Comparable, common_path, compare, divergences
from kvbench.decoding.reference import reference_distances, widened
from kvbench.decoding.sampling import is_greedy
from kvbench.interruptions import Interruptions
from kvbench.measuring.memory import MemoryMeter
from kvbench.models.checkpoint import DTYPES
from kvbench.plan import Plan
from kvbench.records.agreement_figures import AgreementFigures, ReferenceDistance
from kvbench.records.untimed import UntimedPass
from kvbench.running import preconditions
from kvbench.running.model_on_device import ModelOnDevice


def agreement(
    session: Comparable, plan: Plan, interruptions: Interruptions, candidate: int, passes: Sequence[UntimedPass]
) -> AgreementFigures:
    """See `Session.agreement`."""
    extent = _extent(plan, interruptions)
    figures = compare(session, candidate, passes[0].tokens, passes[candidate].tokens, extent)
    sampling = plan.config.sampling
    return replace(figures, sampled=not is_greedy(sampling), penalised=sampling.repetition_penalty != 1.0)


def references(
    session: Comparable,
    plan: Plan,
    interruptions: Interruptions,
    model: ModelOnDevice,
    meter: MemoryMeter,
    passes: Sequence[UntimedPass],
) -> list[ReferenceDistance]:
    """See `Session.references`: one path for all arms, the one that shows the first divergence of any."""
    wanted = plan.config.check.reference
    if wanted == "none":
        return []
    found = [each for arm in passes[1:] for each in divergences(passes[0].tokens, arm.tokens)]
    earliest = min(found, key=lambda each: each.step, default=None)
    number, path = common_path(session, passes[0].tokens, earliest, _extent(plan, interruptions))
    device = preconditions.reference_device(wanted, model.loaded.facts, model.device)
    wide = widened(model.loaded.model, DTYPES[wanted], device)
    try:
        return reference_distances(session, wide, range(len(passes)), number, path, interruptions)
    finally:
        del wide
        meter.reset()


def _extent(plan: Plan, interruptions: Interruptions) -> int | None:
    """How many steps are compared; None for all."""
    if plan.config.check.agreement != "few":
        return None
    # The passes after an interruption are what an interrupted arm is about.
    return max(FEW_STEPS, *(step + 2 for step in interruptions.steps), 0)
