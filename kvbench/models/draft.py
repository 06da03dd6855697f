"""The draft model of mode=assisted: loaded like a model, or the model's own layers a second time over its weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kvbench.config.schema import ITSELF, Config, ModelConfig
from kvbench.errors import ConfigError, ModelUnavailable
from kvbench.models.loading import LoadedModel, load
from kvbench.models.signature import attention_of


@dataclass(frozen=True)
class Draft:
    """`name` is what was asked for. `weight_bytes` are those that it holds besides the model's.

    There are none where it is the model itself.
    """

    model: Any
    name: str
    parameters: int | None
    weight_bytes: int
    own_attention: str


def load_draft(config: Config, target: LoadedModel, device: torch.device) -> Draft:
    """The draft that a configuration names, on the model's device.

    Raises `ConfigError` for one whose tokens are not the model's, and what `load` raises.
    """
    if config.assisted.model == ITSELF:
        # A module of its own, so that its passes are told from the model's; parameters and buffers are the same ones.
        shared = {id(each): each for each in (*target.model.parameters(), *target.model.buffers())}
        model = copy.deepcopy(target.model, shared)
        return Draft(model, ITSELF, target.facts.parameters, 0, attention_of(model))
    wanted = config.assisted.model
    try:
        loaded = load(draft_spec(config), device)
    except ModelUnavailable as error:
        reason = str(error).removeprefix(f"model.path={wanted}: ")
        raise ModelUnavailable(f"assisted.model={wanted}: {reason}") from error
    _require_same_tokens(wanted, target, loaded)
    facts = loaded.facts
    return Draft(loaded.model, wanted, facts.parameters, facts.weight_bytes or 0, attention_of(loaded.model))


def draft_spec(config: Config) -> ModelConfig:
    """How the draft is loaded: a folder that is there, else a hub id; random weights where the model's are random."""
    wanted, model = config.assisted.model, config.model
    is_folder = wanted.startswith((".", "/", "~")) or Path(wanted).is_dir()
    weights = "random" if model.weights == "random" else "path" if is_folder else "hub"
    spec = ModelConfig(name=Path(wanted).name, weights=weights, dtype=model.dtype, seed=model.seed)
    spec = replace(spec, trust_remote_code=model.trust_remote_code)
    return replace(spec, path=wanted) if is_folder else replace(spec, id=wanted)


def _require_same_tokens(name: str, target: LoadedModel, draft: LoadedModel) -> None:
    sizes = [each.model.config.get_text_config().vocab_size for each in (target, draft)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"assisted.model={name}: its vocabulary has {sizes[1]:,} tokens and the model's {sizes[0]:,}; a draft needs"
            " the model's own tokenizer: choose a smaller model of the same family"
        )
    words = [_vocabulary(each.tokenizer) for each in (target, draft)]
    if None not in words and words[0] != words[1]:
        raise ConfigError(
            f"assisted.model={name}: its tokenizer means other words by the same numbers than the model's; choose a"
            " smaller model of the same family"
        )


def _vocabulary(tokenizer: Any) -> dict[str, int] | None:
    try:
        return dict(tokenizer.get_vocab())
    except (AttributeError, NotImplementedError, TypeError):
        return None
