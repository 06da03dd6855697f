"""How a model is called: the one place that knows what arguments and output fields are named.

transformers 5.24.0 renamed what takes and returns a cache from `past_key_values` (Mamba: `cache_params`) to `cache`.
Until 5.40 the old names are aliases, which warn at every call and which no signature shows. Code that comes with a
checkpoint may still be written with them, so each model is asked by its own signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE_NAMES = ("cache", "past_key_values", "cache_params")  # the newest first
STATE_NAMES = ("state",)  # RWKV: a list of tensors


@dataclass(frozen=True)
class ForwardSignature:
    """What the `forward` of one model takes."""

    cache: str | None  # the argument that takes transformers' caches; None where the model takes none
    state: str | None  # the argument and the output field of a past that the model makes itself at its first pass
    recurrent: bool  # whether that past is recurrent states alone, beside which no mask of past tokens is taken
    positions: bool
    logits_to_keep: bool

    @property
    def makes_state(self) -> bool:
        """Whether the model's past is a state of its own."""
        return self.state is not None

    @property
    def keeps_past(self) -> bool:
        """Whether the model can decode with a past at all."""
        return self.cache is not None or self.makes_state

    def handing(self, cache: Any | None) -> dict[str, Any]:
        """The argument that hands a cache in; nothing where there is none, or no state yet in an `OwnPast`."""
        if self.state is not None:
            return {} if cache is None or cache.cache is None else {self.state: cache.cache}
        return {} if cache is None or self.cache is None else {self.cache: cache}


def transformers_model(model: Any) -> Any:
    """The model inside a wrapper that hands on what it does not know, such as PEFT's or torch.compile's; or itself."""
    if isinstance(model, PreTrainedModel) or not isinstance(model, torch.nn.Module):
        return model
    parameters = inspect.signature(model.forward).parameters
    if parameters.keys() & {*CACHE_NAMES, *STATE_NAMES} or not any(map(_takes_the_rest, parameters.values())):
        return model
    return next((part for part in model.modules() if isinstance(part, PreTrainedModel)), model)


def _takes_the_rest(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.VAR_KEYWORD


def attention_of(model: Any) -> str:
    """transformers' name for the attention of the part that decodes text; a part for images may have another one."""
    config = model.config
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    return str(text._attn_implementation)


def signature_of(model: Any) -> ForwardSignature:
    """The signature of a model that no engine has wrapped; of a wrapper that hands everything on, the one inside."""
    model = transformers_model(model)
    known = inspect.signature(model.forward).parameters
    named = next((name for name in CACHE_NAMES if name in known), None)
    state = next((name for name in STATE_NAMES if name in known), None)
    if state is None and named is not None and _makes_state(model):
        state = named
    return ForwardSignature(
        cache=None if state is not None else named,
        state=state,
        recurrent=state is not None and bool(getattr(model, "_is_stateful", False)),
        positions="position_ids" in known,
        logits_to_keep="logits_to_keep" in known,
    )


def handed_cache(arguments: Mapping[str, Any]) -> Any | None:
    """The cache among the arguments of a call, whoever made it; None where there is none."""
    return next((arguments[name] for name in CACHE_NAMES if arguments.get(name) is not None), None)


def returned_cache(output: Any) -> Any | None:
    """The cache that a pass or `generate` returned; None where there is none."""
    return handed_cache(getattr(output, "__dict__", {}))


def library_cache(cache: Any | None) -> dict[str, Any]:
    """A cache under the name that the installed transformers itself gives it, in arguments and in outputs."""
    return {_LIBRARY_NAME: cache}


def _makes_state(model: Any) -> bool:
    """Whether a model that has an argument for a cache takes none of transformers' general kinds."""
    if not isinstance(model, PreTrainedModel):
        return False
    if not getattr(model, "_supports_default_dynamic_cache", lambda: True)():
        return True  # transformers' own list: xLSTM, MiniMax
    try:
        DynamicCache(config=model.config.get_text_config(decoder=True)).get_seq_length()
    except ValueError:  # recurrent layers alone, such as Mamba's, count no tokens
        return True
    except Exception:  # a config of another kind, which only a run with a cache has to read
        return False
    return False


# Outputs are built within compiled passes, where nothing may be looked up.
_LIBRARY_NAME = next(
    (name for name in CACHE_NAMES if name in {field.name for field in fields(CausalLMOutputWithPast)}), CACHE_NAMES[0]
)
