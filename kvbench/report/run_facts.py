"""What is said of a run besides its figures: the shapes that the model returned, interruptions, compiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from kvbench.arm import arm_names
from kvbench.capabilities import ENGINES
from kvbench.records.arm_figures import Turn
from kvbench.records.run_record import RunRecord
from kvbench.report.names import format_estimate
from kvbench.report.sentences import counted, is_said, own_words, say
from kvbench.text import UNKNOWN, format_value, printable

# What the modes of a run do.


def modes_in_words(record: RunRecord) -> tuple[str, ...]:
    """One sentence for each mode of the run, in the order of its arms."""
    codes = dict.fromkeys(f"glance.mode.{arm.mode}" for arm in record.arms)
    return tuple(say(code) for code in codes if is_said(code))


# What the model returned, as rows of text: equal layers of a cache are told once.


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
        name=printable(name),
        shape=" × ".join(str(extent) for extent in tensor["shape"]) or say("shape.scalar"),
        meaning=printable(", ".join(tensor.get("dimensions", ()))),
        dtype=printable(str(tensor.get("dtype") or "")),
        size=size if count == 1 else f"{count} × {size}",
    )


def _missing(parts: Mapping[str, Any], name: str) -> ShapeRow | None:
    reason = parts.get(f"{name}_reason")
    return ShapeRow(name, UNKNOWN, own_words(printable(reason)), "", "") if reason else None


def _cache_rows(layers: Sequence[Mapping[str, Any]]) -> Iterator[ShapeRow | None]:
    if not layers:
        yield ShapeRow(say("shape.cache"), UNKNOWN, say("shape.no-cache"), "", "")
    index = 0
    for (kind, held), group in groupby(layers, key=_held):
        count = len(list(group))
        which = (
            say("shape.layer", index=index) if count == 1 else say("shape.layers", first=index, last=index + count - 1)
        )
        index += count
        if not held:
            yield ShapeRow(which, UNKNOWN, printable(say("shape.empty", kind=kind)), "", "")
        for name, tensor in held.items():
            yield _row(say("terminal.told", subject=which, text=name), tensor, count)


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


# What happened at each interruption, as the rows of one table: the console and the page show it.


@dataclass(frozen=True)
class TurnRow:
    """One interruption over all arms; `paid_back` speaks of the arm that lost its cache."""

    step: str
    context: str
    cells: tuple[str, ...]
    paid_back: str


def turn_arms(record: RunRecord) -> tuple[str, ...]:
    """Names of the arms in the table; empty for a run without interruptions."""
    return tuple(name for name, arm in zip(arm_names(record.arms), record.arms, strict=True) if arm.turns)


def turn_rows(record: RunRecord) -> tuple[TurnRow, ...]:
    """One row per interruption."""
    by_arm = [arm.turns for arm in record.arms if arm.turns]
    return tuple(
        TurnRow(
            step=str(turns[0].step),
            context=f"{turns[0].context_length:,}",
            cells=tuple(_cell(turn) for turn in turns),
            paid_back=_paid_back(turns),
        )
        for turns in zip(*by_arm, strict=True)
    )


def _cell(turn: Turn) -> str:
    return say("turns.cell", count=f"{turn.submitted_tokens:,}", figure=format_estimate(turn.ttft_s, "s"))


def _paid_back(turns: tuple[Turn, ...]) -> str:
    found = next((turn.paid_back_after_tokens for turn in turns if turn.paid_back_after_tokens is not None), None)
    return UNKNOWN if found is None else counted("tokens", found)


def phase_name(phase: str) -> str:
    """What the run does in one of its phases; one that is not known as the record has it."""
    code = f"phase.{phase}"
    return say(code) if is_said(code) else phase


# What compiling and capturing cost at the first visit, in words.


def preparations(record: RunRecord) -> Iterator[str]:
    """A sentence for every arm whose engine prepared something: `cached (compiled): compiling took 12.3 s, once`."""
    for name, arm in zip(arm_names(record.arms), record.arms, strict=True):
        if arm.cold.compile_s:
            known = ENGINES[arm.engine].preparation if arm.engine in ENGINES else "preparing"
            word = say(f"preparation.{known}")
            took = format_value(arm.cold.compile_s, "s")
            yield say("first.preparation", name=name, word=word, seconds=took)
