"""What one forward pass must read and compute, from the model's facts alone: the arithmetic behind floors and limits.

Matrix products only, 2 FLOPs for a multiply and an add (Kaplan et al., 2020, table 1, without its factor for training);
norms, activations, rotations and softmax are left out, as torch's own counter leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from kvbench.model_facts import YUAN, ModelFacts, kv_cache_bytes


@dataclass(frozen=True)
class Cost:
    """One forward pass. Bytes are those that have to be read once; FLOPs of attention follow the causal mask.

    `square_flops` count every query against every key that is handed in, as kernels without a causal shortcut do.
    """

    weight_bytes: int
    kv_bytes: int
    flops: int
    square_flops: int
    head_flops: int  # of them, the output projection's

    @property
    def bytes(self) -> int:
        """Everything that has to be read."""
        return self.weight_bytes + self.kv_bytes


def facts_from_mapping(model: Mapping[str, Any]) -> ModelFacts:
    """The facts that a record's `model` holds; what an older record lacks is None."""
    known: dict[str, Any] = {
        each.name: model.get(each.name) for each in fields(ModelFacts) if each.name != "null_reasons"
    }
    return ModelFacts(**{**known, "layer_types": tuple(known["layer_types"] or ())})


def pass_cost(
    facts: ModelFacts, batch: int, submitted: int, past: int = 0, *, logits: int = 1, reads_cache: bool | None = None
) -> Cost | None:
    """The cost of submitting so many tokens per sequence to a past of `past` tokens, with logits of `logits` positions.

    `reads_cache` says whether keys and values come from a cache (default: where there is a past). None where the
    shape of attention or the parts of the weights are not known.
    """
    parts = facts.weight_parts
    if parts is None or facts.kv_bytes_per_token is None or not facts.attention_heads or not facts.head_dim:
        return None
    tokens = batch * submitted
    active = _active_share(facts)
    multiplied = parts["linear"]["parameters"] + parts["experts"]["parameters"] * active
    head_flops = 2 * parts["head"]["parameters"] * batch * logits
    per_pair = 4 * facts.attention_heads * facts.head_dim * batch  # queries times keys, weights times values
    window = facts.sliding_window
    causal = square = 0
    for kind in facts.layer_types:
        reach = window if kind == "sliding" else None
        causal += _visible_pairs(submitted, past, reach)
        square += submitted * (min(past, reach - 1) + submitted if reach else past + submitted)
    dense = int(2 * multiplied * tokens) + head_flops + _filter_flops(facts, batch, past)
    cached = reads_cache if reads_cache is not None else past > 0
    return Cost(
        weight_bytes=_weight_bytes(facts, parts, tokens),
        kv_bytes=(kv_cache_bytes(facts, batch, past + submitted) or 0) if cached else 0,
        flops=dense + per_pair * causal,
        square_flops=dense + per_pair * square,
        head_flops=head_flops,
    )


def step_cost(facts: ModelFacts, batch: int, context: int, *, keeps_past: bool, logits: int = 1) -> Cost | None:
    """A decode step that ends at `context` tokens: one token on a past, or all of them; see `pass_cost`."""
    if keeps_past:
        return pass_cost(facts, batch, 1, context - 1, logits=logits, reads_cache=True)
    return pass_cost(facts, batch, context, logits=logits)


def _visible_pairs(submitted: int, past: int, window: int | None) -> int:
    """Pairs of a query and a key that it may see: query i sees past + i keys, or the last `window` of them."""
    first, last = past + 1, past + submitted
    if window is None or last <= window:
        return (first + last) * submitted // 2
    if first >= window:
        return window * submitted
    growing = window - first  # queries that do not fill the window yet
    return (first + window - 1) * growing // 2 + window * (submitted - growing)


def _filter_flops(facts: ModelFacts, batch: int, past: int) -> int:
    """Yuan's filter on a past: its first convolution, hidden² weights, is computed again for the token before."""
    if facts.model_type != YUAN or not past or not facts.hidden_size:
        return 0
    return 2 * facts.hidden_size**2 * batch * len(facts.layer_types)


def _active_share(facts: ModelFacts) -> float:
    """The share of the experts' weights that one token is multiplied with."""
    if not facts.experts or not facts.experts_per_token:
        return 1.0
    return facts.experts_per_token / facts.experts


def _weight_bytes(facts: ModelFacts, parts: Mapping[str, Mapping[str, int]], tokens: int) -> int:
    """Everything but the embedding tables, of which a row a token; of the experts those that some token is sent to.

    Tokens are taken to choose their experts independently and evenly: an expert is left out by all of n tokens with
    probability (1 - k/E)^n.
    """
    touched = 1 - (1 - _active_share(facts)) ** tokens
    table = parts["embedding"]
    rows = 0
    if table["parameters"] and facts.hidden_size:
        rows = min(table["bytes"], tokens * facts.hidden_size * table["bytes"] // table["parameters"])
    always = parts["linear"]["bytes"] + parts["head"]["bytes"] + parts["other"]["bytes"]
    return always + int(parts["experts"]["bytes"] * touched) + rows
