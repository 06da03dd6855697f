"""The arms of a run held against the first one, and against the model in a wider type, which rounds less."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from kvbench.capabilities import QUANTIZATIONS, takes_masks
from kvbench.decoding.agreement import (
    FEW_STEPS,
    Compared,
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
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import reason_of
from kvbench.models.checkpoint import DTYPES
from kvbench.models.devices import free_bytes
from kvbench.passes import Interruptions
from kvbench.records.agreement_figures import AgreementFigures, ReferenceDistance
from kvbench.records.evidence import RunWarning
from kvbench.records.untimed import UntimedPass
from kvbench.running.faults import is_out_of_memory
from kvbench.running.model_on_device import ModelOnDevice
from kvbench.running.preconditions import reference_device
from kvbench.running.torch_session import TorchSession

EAGER_BYTES = 12  # a score of eager attention at its worst: in float32 before and after the softmax, and its mask


def agreement(session: TorchSession, candidate: int, passes: Sequence[UntimedPass]) -> AgreementFigures:
    """Compare a candidate arm with the first arm on one token path; `passes` are the arms' untimed passes."""
    baseline, judged = passes[0].tokens, passes[candidate].tokens
    figures = compare(_compared(session), candidate, baseline, judged, _extent(session))
    sampling = session.plan.config.sampling
    return replace(figures, sampled=not is_greedy(sampling), penalised=sampling.repetition_penalty != 1.0)


def references(session: TorchSession, passes: Sequence[UntimedPass]) -> list[ReferenceDistance] | list[RunWarning]:
    """How far every arm is from the same model in the type of `check.reference`, or why that is not known.

    There is one path for all arms, the one that shows the first divergence of any. A kernel that knows no such type
    fails here alone: the rest of the run needs no reference.
    """
    wanted, run, model = session.plan.config.check.reference, _compared(session), session.model
    found = [each for arm in passes[1:] for each in divergences(passes[0].tokens, arm.tokens)]
    earliest = min(found, key=lambda each: each.step, default=None)
    number, path = common_path(run, passes[0].tokens, earliest, _extent(session))
    device = reference_device(wanted, model.loaded.facts, model.device)
    wide = widened(model.loaded.model, DTYPES[wanted], device)
    try:
        return reference_distances(run, wide, range(len(passes)), number, path, session.prepared.interruptions)
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        why = f"check.reference={wanted}: the model cannot be computed in it ({reason_of(error)}); use another type"
        return [RunWarning(code="reference_failed", detail=why)]
    finally:
        del wide
        session.meter.reset()


def _compared(session: TorchSession) -> Compared:
    plan, model, decoders = session.plan, session.model, session.decoders
    arithmetic = QUANTIZATIONS[plan.config.model.quantization].arithmetic
    return Compared(
        batches=session.batches,
        batch_members=session.batches.members,
        dtype=arithmetic or str(model.loaded.model.dtype).removeprefix("torch."),
        caches=[arm.cache for arm in plan.arms],
        # A model of one's own is handed no mask.
        takes_masks=not model.is_own and takes_masks(plan.arms[0].attention, model.device.type),
        inserts=bool(session.prepared.interruptions.message_ids),
        decoder=decoders.plain,
        unprepared=decoders.unprepared,
        round_trip=decoders.round_trip,
        second_attention=partial(_second_attention, model, plan.arms[0].attention),
    )


def _second_attention(model: ModelOnDevice, first: str, batch: PromptBatch) -> str | None:
    """An attention other than the model's own and `first`, the first arm's; None where there is none that fits."""
    if "eager" in (model.own_attention, first):
        # Where eager is an architecture's own choice, SDPA may lack something of it, such as soft-capping.
        return "sdpa" if model.own_attention == "sdpa" else None
    rows, length = len(batch.lengths), batch.positions.shape[1]
    scores = rows * (model.loaded.facts.attention_heads or 0) * length**2
    fits = scores * EAGER_BYTES < free_bytes(model.device) / 2
    return "eager" if scores and fits else None


def _extent(session: TorchSession) -> int | None:
    """How many steps are compared; None for all."""
    if session.plan.config.check.agreement != "few":
        return None
    # The passes after an interruption are what an interrupted arm is about.
    return max(FEW_STEPS, *(step + 2 for step in session.prepared.interruptions.steps), 0)


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
    if getattr(wide_model.config, "_experts_implementation", None) not in (None, "eager"):
        wide_model.set_experts_implementation("eager")  # grouped products know no float64
    return wide_model


def reference_distances(
    run: Compared,
    model: Any,
    arms: Iterable[int],
    number: int,
    path: torch.Tensor,
    interruptions: Interruptions,
) -> list[ReferenceDistance]:
    """How far each arm's logits are from those of recomputing with `model`, a `widened` one, along one path.

    `number` is the batch's; `path` is (batch, steps).
    """
    batch = run.batches[number]
    device = next(model.parameters()).device
    forced = Forced(path.to(device))
    attention = str(model.config._attn_implementation)
    if attention != "sdpa":  # other kernels may not exist in a wide type, eager attention does
        attention = "eager"
    setting = SessionSettings("auto", attention, 0)
    loop = NoCacheLoop(Forward(model), forced, setting, 0, interruptions=interruptions)
    reference = follow(loop, forced, _moved(batch, device))
    return [_distance(run, arm, batch, path, reference, model, device) for arm in arms]


def _distance(
    run: Compared,
    arm: int,
    batch: PromptBatch,
    path: torch.Tensor,
    reference: Sequence[torch.Tensor],
    model: Any,
    device: torch.device,
) -> ReferenceDistance:
    forced = Forced(path)
    steps = step_figures(reference, follow(run.decoder(arm, forced), forced, batch))
    return ReferenceDistance(
        arm=arm,
        dtype=str(model.dtype).removeprefix("torch."),
        device=device.type,
        steps=path.shape[1],
        **overall(steps),
    )


def _moved(batch: PromptBatch, device: torch.device) -> PromptBatch:
    mask = None if batch.mask is None else batch.mask.to(device)
    return PromptBatch(batch.index, batch.input_ids.to(device), batch.positions.to(device), mask, batch.lengths)
