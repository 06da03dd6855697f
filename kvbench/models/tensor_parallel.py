"""A model whose layers are shared out over ranks by transformers' own plan, and what each rank holds of it.

transformers replaces the weights that its plan names by DTensors, of which a rank holds a shard, and a layer's
`forward` by one that computes with the shard and adds the results up over the ranks.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from kvbench.cache_layers import ATTENTION_HEADS, first, kv_heads_of
from kvbench.errors import ModelUnavailable
from kvbench.model_facts import ModelFacts

SHARED_KINDS = frozenset({"full", "sliding", "chunked_attention"})  # of layers, whose keys lie head by head
NOT_PREDICTED = "how the ranks share the cache of this architecture is not predicted"
# Which dimension of a weight a style of transformers' plans cuts, by the style's first words; of an embedding the other
# one. A style that is not here leaves weights whole.
CUT = {
    "embedding_rowwise": -1,
    "colwise": -2,
    "packed_colwise": -2,
    "rowwise": -1,
    "packed_rowwise": -1,
    "grouped_gemm": 0,
}


def distributed_config(ranks: int) -> Any:
    """What `from_pretrained` takes to share a model out over all ranks of the process group by its own plan."""
    from transformers.distributed.configuration_utils import DistributedConfig

    return DistributedConfig(tp_size=ranks, tp_plan="auto")


def require_shareable(config: Any, ranks: int, name: str, *, trust_remote_code: bool) -> dict[str, str]:
    """The plan by which an architecture is shared out; nothing is loaded.

    Raises `ModelUnavailable` where transformers has none, or where its heads cannot be divided evenly.
    """
    asked = f"model.tensor_parallel={ranks}"
    text = config.get_text_config()
    heads = first(text, ATTENTION_HEADS)
    kv_heads = kv_heads_of(text, heads)
    plan = _plan_of(config, trust_remote_code=trust_remote_code)
    if not plan:
        raise ModelUnavailable(
            f"{asked}: transformers has no tensor-parallel plan for {name} ({config.model_type}): use"
            " model.tensor_parallel=1, or model.device_map=auto to spread its layers"
        )
    for count, what in ((heads, "attention heads"), (kv_heads, "key-value heads")):
        if isinstance(count, int) and count % ranks:
            fits = [str(each) for each in range(1, count + 1) if not count % each and not (heads or count) % each]
            raise ModelUnavailable(
                f"{asked}: {name} has {count} {what}, which {ranks} ranks cannot share evenly: use"
                f" model.tensor_parallel={' or '.join(fits)}"
            )
    return plan


def _on_meta(config: Any, *, trust_remote_code: bool) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)


def _plan_of(config: Any, *, trust_remote_code: bool) -> dict[str, str]:
    """The plan of the whole model; empty where its layers have none, whatever the head has."""
    model = _on_meta(config, trust_remote_code=trust_remote_code)
    own = dict(getattr(getattr(model, "base_model", model), "_tp_plan", None) or {})
    return dict(getattr(model, "_tp_plan", None) or {}) if own else {}


def shared(config: Any, state: dict[str, torch.Tensor], ranks: int, model_class: Any, dtype: torch.dtype) -> Any:
    """A model that was built in memory, taken through the road of stored ones, which shares it out."""
    model = model_class.from_pretrained(
        None, config=config, state_dict=state, dtype=dtype, distributed_config=distributed_config(ranks)
    )
    for parameter in model.parameters():
        held = local_part(parameter)
        if held.untyped_storage().nbytes() > held.nbytes:  # a view, which keeps the whole weight alive
            parameter._local_tensor = held.clone()
    return model


def predicted_rank_bytes(model: Any, plan: dict[str, str], rank: int, ranks: int) -> int | None:
    """Bytes of the weights that one rank holds, from the shapes and the plan; None for a style that is not known here.

    What the plan names is cut along one dimension, as `torch.chunk` cuts; biases of rows, and all else, are whole.
    """
    total = 0
    for name, parameter in model.named_parameters():
        style = _style(name, plan)
        shape = list(parameter.shape)
        if style is not None:
            dimension = _cut_dimension(style, shape, is_embedding=_is_embedding(model, name))
            if dimension is None:
                pass
            elif (length := shape[dimension]) % ranks and style.startswith("packed"):
                return None
            else:
                share = -(-length // ranks)
                shape[dimension] = max(0, min(length - rank * share, share))
        total += torch.Size(shape).numel() * parameter.element_size()
    return total


def _style(name: str, plan: dict[str, str]) -> str | None:
    generic = re.sub(r"\.\d+(?=\.|$)", ".*", name)
    return plan.get(generic) or plan.get(generic.rpartition(".")[0])


def _is_embedding(model: Any, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), torch.nn.Embedding)


def _cut_dimension(style: str, shape: list[int], *, is_embedding: bool) -> int | None:
    place = next((cut for words, cut in CUT.items() if style.startswith(words)), None)
    if place is None:
        return None
    if place == 0:
        return 0
    if is_embedding:
        return {-2: 1, -1: 0}[place]
    if len(shape) == 1:
        return None if place == -1 else 0  # a bias is added to columns, and after rows are summed
    return len(shape) + place


def local_part(tensor: Any) -> Any:
    """What this rank holds of a tensor: the shard of one that is shared out, all of another."""
    return getattr(tensor, "_local_tensor", tensor)


def of_one_rank(facts: ModelFacts, ranks: int) -> ModelFacts:
    """The facts of the part that one rank decodes: its heads, and its part of the cache.

    A cache whose layers hold more than keys and values by head is not predicted.
    """
    if ranks == 1:
        return facts
    alike = all(
        each.kind in SHARED_KINDS and not each.state_bytes and not each.position_bytes for each in facts.cache_layers
    )
    if not alike or facts.kv_heads is None or facts.kv_heads % ranks:
        return replace(
            facts,
            cache_layers=(),
            kv_bytes_per_token=None,
            null_reasons={**facts.null_reasons, "kv_bytes_per_token": NOT_PREDICTED},
        )
    return replace(
        facts,
        kv_heads=facts.kv_heads // ranks,
        attention_heads=None if facts.attention_heads is None else facts.attention_heads // ranks,
        kv_bytes_per_token=None if facts.kv_bytes_per_token is None else facts.kv_bytes_per_token // ranks,
        cache_layers=tuple(
            replace(
                each,
                token_bytes=each.token_bytes // ranks,
                pair_products=None if each.pair_products is None else each.pair_products // ranks,
            )
            for each in facts.cache_layers
        ),
    )
