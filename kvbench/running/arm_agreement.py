"""The arms of a run held against the first one, and against the model in a wider type, which rounds less."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from kvbench.decoding.agreement import (
    FEW_STEPS,
    Comparable,
    common_path,
    compare,
    divergences,
    follow,
    overall,
    step_figures,
)
from kvbench.decoding.forward import Forward
from kvbench.decoding.loops import NoCacheLoop
from kvbench.decoding.protocol import PromptBatch
from kvbench.decoding.sampling import Forced, is_greedy
from kvbench.decoding.setting import TorchSetting
from kvbench.interruptions import Interruptions
from kvbench.measuring.agreement_figures import AgreementFigures, ReferenceFigures
from kvbench.measuring.memory import MemoryMeter
from kvbench.measuring.untimed_pass import UntimedPass
from kvbench.models.checkpoint import DTYPES
from kvbench.plan import Plan
from kvbench.running import preconditions
from kvbench.running.model_on_device import ModelOnDevice


def widened(model: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy of the model with every floating-point tensor in `dtype` on `device`; tied weights stay tied.

    What the architecture itself casts to float32 stays so: in float64 that is most norms, the rotary tables and the
    softmax of eager attention.
    """
    made: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        wide = tensor.detach().to(device, dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
        is_weight = isinstance(tensor, torch.nn.Parameter)
        made[id(tensor)] = torch.nn.Parameter(wide, requires_grad=False) if is_weight else wide
    wide_model = copy.deepcopy(model, made)  # takes what was made here instead of copying the narrow tensors
    wide_model.config.dtype = dtype
    return wide_model


def reference_distances(
    session: Comparable,
    model: Any,
    arms: Iterable[int],
    number: int,
    path: torch.Tensor,
    interruptions: Interruptions,
) -> list[ReferenceFigures]:
    """How far each arm's logits are from those of recomputing with `model`, a `widened` one, along one path.

    `number` is the batch's; `path` is (batch, steps).
    """
    batch = session.batches[number]
    device = next(model.parameters()).device
    forced = Forced(path.to(device))
    attention = str(model.config._attn_implementation)
    if attention != "sdpa":  # other kernels may not exist in a wide type, eager attention does
        attention = "eager"
    setting = TorchSetting("auto", attention, 0)
    loop = NoCacheLoop(Forward(model), forced, setting, 0, interruptions=interruptions)
    reference = follow(loop, forced, _moved(batch, device))
    return [_distance(session, arm, batch, path, reference, model, device) for arm in arms]


def _distance(
    session: Comparable,
    arm: int,
    batch: PromptBatch,
    path: torch.Tensor,
    reference: Sequence[torch.Tensor],
    model: Any,
    device: torch.device,
) -> ReferenceFigures:
    forced = Forced(path)
    steps = step_figures(reference, follow(session.decoder(arm, forced), forced, batch))
    return ReferenceFigures(arm, str(model.dtype).removeprefix("torch."), device.type, path.shape[1], **overall(steps))


def _moved(batch: PromptBatch, device: torch.device) -> PromptBatch:
    mask = None if batch.mask is None else batch.mask.to(device)
    return PromptBatch(batch.index, batch.input_ids.to(device), batch.positions.to(device), mask, batch.lengths)


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
) -> list[ReferenceFigures]:
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
