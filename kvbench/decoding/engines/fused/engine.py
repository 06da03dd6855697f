"""The engine of hand-written kernels: checked against the model at every preparation, then captured and replayed."""

from __future__ import annotations

from typing import Any

import torch
from triton.runtime.errors import TritonError

from kvbench.decoding.engines.fused.step import FusedStep
from kvbench.decoding.engines.fused.weights import read_weights
from kvbench.decoding.engines.graph import Graph
from kvbench.decoding.engines.rehearsal import CacheState
from kvbench.decoding.engines.repeating import Repeat
from kvbench.errors import ModelUnavailable, reason_of

# Of the largest logit. Far above any rounding: what it finds is a model that these kernels do not know, and the
# agreement check judges the rest.
UNLIKE = 0.25
PROGRAMMATIC_LAUNCH = (9, 0)  # the first compute capability on which a kernel may begin while another ends


class Fused(Graph):
    """A cached step of a model of a known family; see `Engine` and `FusedStep`."""

    def _prepared(self, tensors: dict[str, torch.Tensor], cache: Any | None, fixed: dict[str, Any]) -> Repeat:
        buffers = {name: tensor.clone() for name, tensor in tensors.items()}
        step = FusedStep(
            read_weights(self._model),
            cache,
            buffers["input_ids"],
            buffers["position_ids"],
            buffers.get("attention_mask"),
            dependent=torch.cuda.get_device_capability(self._device) >= PROGRAMMATIC_LAUNCH,
        )
        before = CacheState(cache)
        known = self._plain(**self._handing(cache), **fixed, **tensors).logits.float()
        before.restore()
        try:
            repeat = self._captured(step, buffers, cache)
        except TritonError as error:
            raise ModelUnavailable(
                f"engine=fused: its kernels do not run on this device ({reason_of(error)}); use engine=compiled"
            ) from error
        # The replayed pass is what is held against the model, not the one that it was captured from.
        difference = float((repeat(tensors).float() - known).abs().max() / known.abs().max())
        before.restore()
        if not difference < UNLIKE:
            raise ModelUnavailable(
                f"engine=fused: its kernels are not what {type(self._model).__name__} computes (logits {difference:.0%}"
                " apart); use engine=compiled"
            )
        return repeat
