"""What the model returned for one prefill and one step, read off its real outputs in an untimed run."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import torch

from kvbench.models.own import OwnTensors
from kvbench.models.signature import returned_cache
from kvbench.records.samples import Shapes
from kvbench.running.torch_session import TorchSession

# Dimensions by what a cache layer calls its tensors, and by rank for what it calls otherwise.
KEYS_AND_VALUES = ["batch", "kv_heads", "seq", "head_dim"]
CONVOLUTION = ["batch", "channels", "kernel"]
NO_LABELS = "no labels were given, so there is no loss"
NOT_ASKED = "not asked for (shapes.{0}=true)"
NOT_RETURNED = "asked for, but this architecture or way of decoding returns none"


class Returned:
    """A context in which passes of `model` are described as they come back; also the observer of what decodes there.

    `passes` holds the one that made the first token, which ends the prefill, and the first one after it. With
    `hidden_states` and `attentions` the model is asked for them.
    """

    def __init__(self, model: Any, *, hidden_states: bool, attentions: bool) -> None:
        self._model = model
        self._asked = {"output_hidden_states": hidden_states, "output_attentions": attentions}
        self.passes: list[dict[str, Any]] = []
        self._tokens = 0

    def on_token(self, index: int, token_ids: Any) -> None:  # noqa: ARG002 - the observer's shape
        """Count the tokens so far."""
        self._tokens = index + 1

    def __enter__(self) -> Self:
        self._hooks = [
            self._model.register_forward_pre_hook(self._ask, with_kwargs=True),
            self._model.register_forward_hook(self._see, with_kwargs=True),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _ask(self, model: Any, args: Any, kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - torch's shape
        wanted = {name: True for name, asked in self._asked.items() if asked}
        return (args, {**kwargs, **wanted}) if wanted else None

    def _see(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002
        if self._tokens < 2:
            # A prefill in several passes is shown by its last one.
            self.passes[self._tokens :] = [self._described(kwargs["input_ids"], output)]

    def _described(self, input_ids: torch.Tensor, output: Any) -> dict[str, Any]:
        cache = returned_cache(output)
        parts: dict[str, Any] = {
            "input_ids": _tensor(input_ids, ["batch", "submitted"]),
            "loss": None,
            "loss_reason": NO_LABELS,
            "logits": _tensor(output.logits, ["batch", "positions", "vocabulary"]),
            "cache_layers": [_layer(index, layer) for index, layer in enumerate(cache.layers)] if cache else [],
        }
        for name, dimensions in (
            ("hidden_states", ["batch", "submitted", "hidden"]),
            ("attentions", ["batch", "heads", "submitted", "seq"]),
        ):
            returned = getattr(output, name, None) if self._asked[f"output_{name}"] else None
            tensors = [each for each in returned or () if each is not None]
            parts[name] = [_tensor(each, dimensions) for each in tensors] or None
            if not tensors:
                asked = self._asked[f"output_{name}"]
                parts[f"{name}_reason"] = NOT_RETURNED if asked else NOT_ASKED.format(name)
        return parts


def shapes(session: TorchSession) -> Shapes:
    """One prefill, and one step of every arm of a run, over its first batch."""
    model, wanted = session.model.loaded.model, session.plan.config.shapes
    found: dict[str, Any] = {}
    prefills: dict[bool, dict[str, Any]] = {}
    for number, arm in enumerate(session.plan.arms):
        decoder = session.decoders.plain(number)
        decoder.prepare(None)
        if wanted.attentions:  # no other implementation returns them; the next `prepare` puts it back
            model.set_attn_implementation("eager")
        with Returned(model, hidden_states=wanted.hidden_states, attentions=wanted.attentions) as returned:
            decoder.run(session.batches[0], 2, returned)
        prefill, step = returned.passes
        prefills.setdefault(arm.keeps_past, prefill)
        found[arm.label if arm.label not in found else f"{arm.label} #{number + 1}"] = step
    # The one that leaves a cache behind says more.
    return Shapes({"prefill": prefills.get(True, prefills.get(False)), **found})


def _tensor(tensor: torch.Tensor, dimensions: list[str]) -> dict[str, Any]:
    return {
        "shape": list(tensor.shape),
        "dimensions": dimensions if len(dimensions) == tensor.ndim else [f"dimension {n}" for n in range(tensor.ndim)],
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "bytes": tensor.numel() * tensor.element_size(),
    }


def _layer(index: int, layer: Any) -> dict[str, Any]:
    tensors = dict(_named_tensors(vars(layer), known=not isinstance(layer, OwnTensors)))
    return {"layer": index, "kind": type(layer).__name__, "tensors": tensors}


def _named_tensors(
    attributes: dict[str, Any], prefix: str = "", *, known: bool = True
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in attributes.items():
        full = f"{prefix}{name}"
        if isinstance(value, torch.Tensor):
            dimensions = CONVOLUTION if full.startswith("conv_states") else KEYS_AND_VALUES
            yield full, _tensor(value, dimensions if known else [])
        elif isinstance(value, dict):
            yield from _named_tensors({str(key): item for key, item in value.items()}, f"{full}.")
