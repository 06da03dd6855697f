"""Models of transformers that do not decode a text by themselves: a sentence for each kind, before anything is run."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from kvbench.errors import ModelUnavailable
from kvbench.models.signature import transformers_model

ENCODER_DECODER = (
    "is an encoder-decoder, which writes a second text about the one that its encoder reads: choose a causal language"
    " model, such as one of AutoModelForCausalLM"
)
PROMPT_LEARNING = (
    "puts learnt tokens in front of every prompt (prompt learning), which are not counted here: measure an adapter of"
    " weights such as LoRA, or the model inside"
)


def require_decoder(model: Any, *, with_past: bool) -> None:
    """Raise `ModelUnavailable` when a model of transformers is of a kind that does not decode text by itself.

    `with_past` is whether it is to decode with a cache.
    """
    inside = transformers_model(model)
    takes = inspect.signature(inside.forward).parameters
    why = _unsuited(inside, takes)
    if why is None and with_past and hasattr(getattr(inside, "model", None), "patcher"):
        why = (
            "cuts its bytes into patches, whose number the newest byte may change, and transformers keeps no cache of"
            " them: use mode=nocache"
        )
    if why is None and with_past and {"langs", "lengths"} <= takes.keys():  # XLM
        why = (
            "takes every token of the text beside its cache, and leaves out those that the cache holds, so that a step"
            " cannot submit the newest token alone: use mode=nocache"
        )
    if why is not None:
        raise ModelUnavailable(f"{type(inside).__name__} {why}")


def _unsuited(model: Any, takes: Collection[str]) -> str | None:
    """Why a model is no decoder of text, by what it is made of and the arguments that its forward takes."""
    if "decoder_input_ids" in takes:
        return ENCODER_DECODER
    if "shared_kv_states" in takes:
        return "is an assistant, which reads the keys and values of the model that it drafts for: measure that model"
    if hasattr(model, "num_codebooks") and hasattr(model, "lm_heads"):
        return "writes several streams of audio codes and no text: choose a model that writes text"
    if isinstance(model, PreTrainedModel) and "labels" not in takes and not model.can_generate():
        return "has no head that gives logits of tokens: load it with AutoModelForCausalLM"
    return None


def require_no_encoder(config: Any, model: str) -> None:
    """Raise `ModelUnavailable` for a checkpoint of an encoder-decoder, of which a causal class would load a half."""
    if getattr(config, "is_encoder_decoder", False):
        kind = next(iter(getattr(config, "architectures", None) or ()), None)
        raise ModelUnavailable(f"{model}{f' ({kind})' if kind else ''} {ENCODER_DECODER}")


def require_no_prompt_learning(folder: Path, model: str) -> None:
    """Raise `ModelUnavailable` for an adapter whose learnt tokens go in front of every prompt. Wants PEFT."""
    from peft import PeftConfig

    if PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
        raise ModelUnavailable(f"{model} {PROMPT_LEARNING}")


def require_own_generate(model: Any) -> None:
    """Raise `ModelUnavailable` for a wrapper, such as torch.compile's, whose `generate` is the inner model's."""
    inside = transformers_model(model)
    if inside is not model:
        raise ModelUnavailable(
            f"mode=generate: {type(model).__name__}.generate runs the {type(inside).__name__} inside, without what the"
            " wrapper does: leave the mode out, or pass the model inside"
        )


def without_peft(model: Any) -> Any:
    """The model inside of PEFT's wrapper, whose adapter layers are in it; any other model as it is.

    Raises `ModelUnavailable` for prompt learning, whose tokens are no part of the model inside. PEFT is not imported.
    """
    configs = getattr(model, "peft_config", None)
    if isinstance(model, PreTrainedModel) or not isinstance(configs, dict):
        return model
    if any(getattr(each, "is_prompt_learning", False) for each in configs.values()):
        raise ModelUnavailable(f"{type(model).__name__} {PROMPT_LEARNING} (model.get_base_model())")
    return model.get_base_model()


def adapter_facts(model: Any) -> dict[str, Any] | None:
    """Type, rank and base of the adapters of PEFT that are active in a model; None where there is none.

    The model is PEFT's wrapper, or one of transformers with adapters in it. Of several adapters the words are joined.
    """
    configs = getattr(model, "peft_config", None)
    if not isinstance(configs, dict) or not configs:
        return None
    # As the layers have it: transformers' own method refuses versions of PEFT that load and compute the same.
    named = (getattr(layer, "active_adapters", None) for layer in model.modules())
    active = dict.fromkeys(name for names in named if isinstance(names, (list, tuple)) for name in names)
    found = [configs[name] for name in active or configs if name in configs]
    ranks = [rank for each in found if (rank := getattr(each, "r", None)) is not None]
    bases = dict.fromkeys(str(base) for each in found if (base := getattr(each, "base_model_name_or_path", None)))
    kinds = (getattr(each, "peft_type", None) for each in found)
    return {
        "type": " + ".join(str(getattr(kind, "value", kind)) for kind in kinds),
        "rank": ranks[0] if len(ranks) == 1 else " + ".join(map(str, ranks)) or None,
        "base": " + ".join(bases) or None,
    }
