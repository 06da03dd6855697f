"""What readers take out of mappings that may hold anything: parts of a record, lines of the files beside it.

The configuration, the environment, the model and the shapes hold other programs' words, and a line of blocks.jsonl more
than is read of it. What is read has the type that it is taken for, and all of it is bounded: a run folder may come from
anybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic wants this one on Python 3.11

LARGEST = 1e100  # of any number in a record: far beyond every figure, and sums and products of it are still numbers
LARGEST_INTEGER = 2**63 - 1  # what other formats hold
DEEPEST = 24  # mappings and lists inside of each other
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]


class VisitLine(TypedDict):
    """Of a visit, what is read (see `timings.Visit`)."""

    arm: Count
    lane: str
    sequences: Count
    new_tokens: Count
    steps: Count
    decode_s: Amount


class ReadingLine(TypedDict, total=False):
    """A look at the device (see `timings.DeviceReading`)."""

    sm_clock_mhz: Count | None
    power_w: Amount | None
    temperature_c: Annotated[int, Field(ge=-1000, le=1000)] | None
    limits: list[str] | None
    limited_s: dict[str, Amount] | None


class BlockLine(TypedDict):
    """A line of blocks.jsonl (see `timings.Block`)."""

    index: Count
    elapsed_s: Amount
    visits: list[VisitLine]
    device_before: NotRequired[ReadingLine | None]
    device_after: NotRequired[ReadingLine | None]
    throttled: NotRequired[list[str] | None]
    repeats: NotRequired[Count | None]


class PromptLine(TypedDict):
    """A line of prompts.jsonl; without a tokenizer there is no text."""

    text: str | None


class Tensor(TypedDict):
    """A tensor that the model returned: its shape at least."""

    shape: list[int]
    dimensions: NotRequired[list[str]]
    dtype: NotRequired[str | None]
    bytes: NotRequired[int | None]


class CacheLayer(TypedDict, total=False):
    """One layer of a cache; records of version 0.1.0 have the shapes of `keys` and `values` alone."""

    kind: str
    tensors: dict[str, Tensor] | None
    keys: list[int]
    values: list[int]
    dimensions: list[str]
    dtype: str


class Pass(TypedDict, total=False):
    """What the model returned in one pass, and why it did not return the rest."""

    input_ids: Tensor | None
    logits: Tensor | None
    cache_layers: list[CacheLayer] | None
    hidden_states: list[Tensor] | None
    attentions: list[Tensor] | None
    loss_reason: str | None
    hidden_states_reason: str | None
    attentions_reason: str | None


class Worker(TypedDict, total=False):
    """The process that decoded."""

    pid: int | None
    started_at: str | None


class Environment(TypedDict, total=False):
    """Of the environment, what is read."""

    python: str | None
    torch: str | None
    transformers: str | None
    os: str | None
    cpu: str | None
    device: str | None
    device_name: str | None
    device_names: list[str] | None
    logical_cores: int | None
    git_commit: str | None
    git_dirty: bool | None
    worker: Worker | None


class Model(TypedDict, total=False):
    """Of the model, what is read."""

    name: str | None
    source: str | None
    dtype: str | None
    revision: str | None
    quantization: str | None
    parameters: int | None
    weight_bytes: int | None
    kv_bytes_per_token: int | None
    layers: int | None
    max_context: int | None
    layer_types: list[str] | None


class Configuration(TypedDict, total=False):
    """Of the configuration, what is read; a point that could not be composed has its overrides alone."""

    name: str | None
    model: dict[str, Any] | str | None
    workload: dict[str, Any] | None
    sampling: dict[str, Any] | None
    interrupt: dict[str, Any] | None
    measure: dict[str, Any] | None
    overrides: list[str]


def _described(kind: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def check(value: dict[str, Any]) -> dict[str, Any]:
        require_bounded(value)
        try:
            adapter.validate_python(value, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            where = "/".join(str(part) for part in first["loc"])
            raise ValueError(f"{where}: {first['msg']}") from error
        return value

    return check


def require_bounded(value: Any, depth: int = 0) -> None:
    """Raise `ValueError` for numbers that no measurement gives, and for mappings nested beyond reason."""
    if isinstance(value, (dict, list, tuple)):
        if depth == DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST}")
        for item in value.values() if isinstance(value, dict) else value:
            require_bounded(item, depth + 1)
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise ValueError("an integer of more than 64 bits")
    elif isinstance(value, float) and not (math.isfinite(value) and abs(value) <= LARGEST):
        raise ValueError(f"a number that is not finite, or beyond {LARGEST:g}")


ConfigurationOfARun = Annotated[dict[str, Any], AfterValidator(_described(Configuration))]
EnvironmentOfARun = Annotated[dict[str, Any], AfterValidator(_described(Environment))]
ModelOfARun = Annotated[dict[str, Any], AfterValidator(_described(Model))]
ShapesOfARun = Annotated[dict[str, Any], AfterValidator(_described(dict[str, Pass]))]
