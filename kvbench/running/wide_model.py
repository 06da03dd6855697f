"""A model that computes in a type that rounds less: the model itself, whose tensors are exchanged for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from kvbench.decoding.forward import forward_of
from kvbench.decoding.logit_differences import Logits
from kvbench.decoding.loops import NoCacheLoop
from kvbench.decoding.protocol import PromptBatch
from kvbench.decoding.sampling import Forced
from kvbench.decoding.settings import SessionSettings
from kvbench.decoding.token_path import follow
from kvbench.models.own import OWN_ATTENTION
from kvbench.passes import Interruptions


class WideModel:
    """A model with every floating-point tensor in `dtype` on `device`, as long as its `computing` context is open.

    No copy of the model is made, because what was put into it from outside, such as another `forward`, would lead from
    the copy back to the model. Both kinds of tensors are kept, so that opening the context copies nothing.

    What the architecture itself casts to float32 stays so: in float64 that is most norms, the rotary tables and the
    softmax of eager attention.
    """

    def __init__(self, model: Any, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._model = model
        tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._narrow = [(tensor, tensor.data) for tensor in tensors.values()]
        with torch.no_grad():
            self._wide = [
                data.to(device, dtype if data.is_floating_point() else data.dtype, copy=True)
                for _, data in self._narrow
            ]

    @contextmanager
    def computing(self) -> Iterator[Any]:
        """A context in which the model computes in the wide type; afterwards it is as it was."""
        model, config = self._model, self._model.config
        attention, dtype = config._attn_implementation, getattr(config, "dtype", None)
        experts = getattr(config, "_experts_implementation", None)
        # A pass may keep something in a module, such as rotary tables for its length.
        kept = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
        try:
            for (tensor, _), wide in zip(self._narrow, self._wide, strict=True):
                tensor.data = wide
            config.dtype = self.dtype
            if experts not in (None, "eager"):
                model.set_experts_implementation("eager")  # grouped products know no float64
            yield model
        finally:
            for tensor, narrow in self._narrow:
                tensor.data = narrow
            for module, attributes, buffers in kept:
                vars(module).clear()
                vars(module).update(attributes)
                module._buffers.clear()
                module._buffers.update(buffers)
            config.dtype = dtype
            if experts not in (None, "eager"):
                model.set_experts_implementation(experts)
            if config._attn_implementation != attention:
                model.set_attn_implementation(attention)

    def recomputed(self, interruptions: Interruptions, batch: PromptBatch, forced: Forced) -> Logits:
        """The logits of recomputing along a path in the wide type, at the steps that `forced` keeps."""
        with self.computing() as model:
            return _recomputed(model, self.device, interruptions, batch, forced)


def _recomputed(
    model: Any, device: torch.device, interruptions: Interruptions, batch: PromptBatch, forced: Forced
) -> Logits:
    attention = str(model.config._attn_implementation)
    if attention not in ("sdpa", OWN_ATTENTION):  # other kernels may not exist in a wide type, eager attention does
        attention = "eager"
    logits: Logits = []
    for each in dict.fromkeys((attention, OWN_ATTENTION if attention == OWN_ATTENTION else "eager")):
        setting = SessionSettings("auto", each, 0)
        moved = Forced(forced.path.to(device), forced.steps)
        loop = NoCacheLoop(forward_of(model), moved, setting, 0, interruptions=interruptions)
        logits = follow(loop, moved, _moved(batch, device))
        # In double, SDPA makes rows that see nothing but padding no numbers, and spreads them.
        if all(bool((row == row).all()) for row in logits):
            break
    return logits


def _moved(batch: PromptBatch, device: torch.device) -> PromptBatch:
    mask = None if batch.mask is None else batch.mask.to(device)
    return PromptBatch(batch.index, batch.input_ids.to(device), batch.positions.to(device), mask, batch.lengths)
