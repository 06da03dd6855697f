"""The same model in a wider type: what the logits would be with less rounding."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from kvbench.decoding.agreement import Comparable, follow, overall, step_figures
from kvbench.decoding.forward import Forward
from kvbench.decoding.loops import NoCacheLoop
from kvbench.decoding.protocol import PromptBatch
from kvbench.decoding.sampling import Forced
from kvbench.decoding.setting import TorchSetting
from kvbench.interruptions import Interruptions
from kvbench.records.agreement_figures import ReferenceDistance


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
) -> list[ReferenceDistance]:
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
) -> ReferenceDistance:
    forced = Forced(path)
    steps = step_figures(reference, follow(session.decoder(arm, forced), forced, batch))
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
