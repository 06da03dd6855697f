"""Yuan 2.0 once more, in numpy's float64 and plain loops over tokens and heads: slow, obvious, and independent.

It takes the tensors by the published checkpoint's names and shares no line with kvbench/models/yuan.py. `mistake` makes
one of the errors that an implementation could easily contain, to show that the comparison would find it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MISTAKES = (
    "activation on the gate",
    "values from the filtered states",
    "queries and keys split before heads",
    "second convolution padded with the first's bias",
    "convolution taps swapped",
    "no residual in the filter",
    "no norm after the filter",
    "filter stops at <eod>",
    "no <eod> mask",
    "<eod> does not see its document",
    "<eod> seen by the next document",
)


def logits(
    ids: Sequence[int], tensors: Mapping[str, np.ndarray], config: Mapping[str, Any], mistake: str | None = None
) -> np.ndarray:
    """Logits (seq, vocabulary) of one sequence without padding."""
    assert mistake is None or mistake in MISTAKES
    states = [tensors["model.embed_tokens.weight"][token] for token in ids]
    documents = _documents(ids, config, mistake)
    for layer in range(config["num_hidden_layers"]):
        states = _layer(states, documents, _Part(tensors, f"model.layers.{layer}."), config, mistake)
    norm = tensors["model.norm.weight"]
    final = [_rms(state, norm, config["rms_norm_eps"]) for state in states]
    return np.stack([tensors["model.embed_tokens.weight"] @ state for state in final])


class _Part:
    """The tensors of one layer."""

    def __init__(self, tensors: Mapping[str, np.ndarray], prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[self._prefix + name]


def _documents(ids: Sequence[int], config: Mapping[str, Any], mistake: str | None) -> list[int]:
    """The number of the document that each token belongs to: an <eod> ends its own."""
    separates = config["reset_attention_mask"] and config["reset_position_ids"] and mistake != "no <eod> mask"
    numbers, number = [], 0
    for token in ids:
        if separates and token == config["eod_token"] and mistake == "<eod> does not see its document":
            number += 1
        numbers.append(number)
        if separates and token == config["eod_token"] and mistake != "<eod> does not see its document":
            number += 1
    return numbers


def _layer(
    states: list[np.ndarray], documents: list[int], part: _Part, config: Mapping[str, Any], mistake: str | None
) -> list[np.ndarray]:
    eps = config["rms_norm_eps"]
    normed = [_rms(state, part["input_layernorm.weight"], eps) for state in states]
    attended = _attention(normed, documents, part, config, mistake)
    states = [state + more for state, more in zip(states, attended, strict=True)]
    out = []
    for state in states:
        x = _rms(state, part["post_attention_layernorm.weight"], eps)
        up, gate = part["mlp.up_proj.weight"] @ x, part["mlp.gate_proj.weight"] @ x
        inner = up * _silu(gate) if mistake == "activation on the gate" else gate * _silu(up)
        out.append(state + part["mlp.down_proj.weight"] @ inner)
    return out


def _filter(normed: list[np.ndarray], documents: list[int], part: _Part, mistake: str | None) -> list[np.ndarray]:
    first, second = part["self_attn.lf_gate.conv1.weight"], part["self_attn.lf_gate.conv2.weight"]
    first_bias, second_bias = part["self_attn.lf_gate.conv1.bias"], part["self_attn.lf_gate.conv2.bias"]
    older, newer = (1, 0) if mistake == "convolution taps swapped" else (0, 1)
    hidden = len(normed[0])
    inner: list[np.ndarray] = []
    for index, x in enumerate(normed):
        cut = mistake == "filter stops at <eod>" and index and documents[index] != documents[index - 1]
        before = normed[index - 1] if index and not cut else np.zeros(hidden)
        inner.append(first[:, :, older, 0] @ before + first[:, :, newer, 0] @ x + first_bias)
    out = []
    for index, x in enumerate(normed):
        cut = mistake == "filter stops at <eod>" and index and documents[index] != documents[index - 1]
        nothing = first_bias if mistake == "second convolution padded with the first's bias" else np.zeros(hidden // 2)
        before = inner[index - 1] if index and not cut else nothing
        y = second[:, :, older, 0] @ before + second[:, :, newer, 0] @ inner[index] + second_bias
        if mistake != "no residual in the filter":
            y = y + x
        if mistake != "no norm after the filter":
            y = _rms(y, part["self_attn.lf_gate.output_layernorm.weight"], 1e-6)
        out.append(y)
    return out


def _attention(
    normed: list[np.ndarray], documents: list[int], part: _Part, config: Mapping[str, Any], mistake: str | None
) -> list[np.ndarray]:
    heads = config["num_attention_heads"]
    width = config["hidden_size"] // heads
    filtered = _filter(normed, documents, part, mistake)
    queries, keys, values = [], [], []
    for index, (x, f) in enumerate(zip(normed, filtered, strict=True)):
        q, k = part["self_attn.q_proj.weight"] @ f, part["self_attn.k_proj.weight"] @ f
        v = part["self_attn.v_proj.weight"] @ (f if mistake == "values from the filtered states" else x)
        side_by_side = np.concatenate([q, k])
        own_queries, own_keys = [], []
        for head in range(heads):
            if mistake == "queries and keys split before heads":
                of_query, of_key = q[head * width : (head + 1) * width], k[head * width : (head + 1) * width]
            else:
                both = side_by_side[head * 2 * width : (head + 1) * 2 * width]
                of_query, of_key = both[:width], both[width:]
            own_queries.append(_rotated(of_query, index))
            own_keys.append(_rotated(of_key, index))
        queries.append(own_queries)
        keys.append(own_keys)
        values.append([v[head * width : (head + 1) * width] for head in range(heads)])
    out = []
    for index in range(len(normed)):
        parts = []
        for head in range(heads):
            seen = [other for other in range(index + 1) if _sees(index, other, documents, mistake)]
            scores = np.array([queries[index][head] @ keys[other][head] / np.sqrt(width) for other in seen])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            parts.append(sum(weight * values[other][head] for weight, other in zip(weights, seen, strict=True)))
        out.append(part["self_attn.o_proj.weight"] @ np.concatenate(parts))
    return out


def _sees(index: int, other: int, documents: list[int], mistake: str | None) -> bool:
    if documents[index] == documents[other]:
        return True
    ends_the_one_before = documents[other] == documents[index] - 1 and documents[other + 1] == documents[index]
    return mistake == "<eod> seen by the next document" and ends_the_one_before


def _rotated(x: np.ndarray, position: int) -> np.ndarray:
    half = len(x) // 2
    out = np.empty_like(x)
    for index in range(half):
        angle = position / 10000 ** (2 * index / len(x))
        a, b = x[index], x[index + half]
        out[index] = a * np.cos(angle) - b * np.sin(angle)
        out[index + half] = b * np.cos(angle) + a * np.sin(angle)
    return out


def _rms(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return np.asarray(weight * x / np.sqrt(np.mean(x * x) + eps))


def _silu(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / (1 + np.exp(-x)))
