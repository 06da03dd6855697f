"""What the model returned, as rows of text: equal layers of a cache are told once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from kvbench.report.formatting import UNKNOWN, format_value


@dataclass(frozen=True)
class ShapeRow:
    """One tensor, or several equal ones; what was not returned has only its reason."""

    name: str
    shape: str
    meaning: str
    dtype: str
    size: str

    @property
    def line(self) -> str:
        """Everything but the name."""
        return " · ".join(filter(None, (self.shape, self.meaning, self.dtype, self.size)))


def shape_rows(parts: Mapping[str, Any]) -> list[ShapeRow]:
    """The rows of one pass, as the record's `shapes` holds it."""
    rows = [_row("input_ids", parts.get("input_ids")), _missing(parts, "loss")]
    rows.append(_row("logits", parts.get("logits")))
    rows += _cache_rows(parts.get("cache_layers") or [])
    for name in ("hidden_states", "attentions"):
        if parts.get(name):
            rows += _repeated(name, parts[name])
        else:
            rows.append(_missing(parts, name))
    return [row for row in rows if row is not None]


def _row(name: str, tensor: Mapping[str, Any] | None, count: int = 1) -> ShapeRow | None:
    if tensor is None:
        return None
    size = format_value(tensor.get("bytes"), "bytes")
    return ShapeRow(
        name=name,
        shape=" × ".join(str(extent) for extent in tensor["shape"]) or "scalar",
        meaning=", ".join(tensor.get("dimensions", ())),
        dtype=str(tensor.get("dtype", "")),
        size=size if count == 1 else f"{count} × {size}",
    )


def _missing(parts: Mapping[str, Any], name: str) -> ShapeRow | None:
    reason = parts.get(f"{name}_reason")
    return ShapeRow(name, UNKNOWN, reason, "", "") if reason else None


def _cache_rows(layers: Sequence[Mapping[str, Any]]) -> Iterator[ShapeRow | None]:
    if not layers:
        yield ShapeRow("cache", UNKNOWN, "none was returned", "", "")
    index = 0
    for (kind, held), group in groupby(layers, key=_held):
        count = len(list(group))
        which = f"layer {index}" if count == 1 else f"layers {index}–{index + count - 1}"
        index += count
        if not held:
            yield ShapeRow(f"cache {which}", UNKNOWN, f"{kind}: empty", "", "")
        for name, tensor in held.items():
            yield _row(f"cache {which}: {name}", tensor, count)


def _held(layer: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The layer's class and tensors; records of version 0.1.0 had keys and values alone."""
    if "keys" in layer:
        plain = {"dimensions": layer["dimensions"], "dtype": layer["dtype"]}
        return "layer", {name: {"shape": layer[name], **plain} for name in ("keys", "values")}
    return str(layer.get("kind")), dict(layer.get("tensors") or {})


def _repeated(name: str, tensors: Sequence[Mapping[str, Any]]) -> Iterator[ShapeRow | None]:
    index = 0
    for tensor, group in groupby(tensors):
        count = len(list(group))
        which = f"{index}" if count == 1 else f"{index}–{index + count - 1}"
        yield _row(f"{name} {which}", tensor, count)
        index += count
