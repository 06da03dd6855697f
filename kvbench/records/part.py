"""What every part of a record is: checked where it is made, able to say why it is null and what its figures mean."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, cast, dataclass_transform

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticUndefined

from kvbench.records.open_parts import LARGEST, LARGEST_INTEGER
from kvbench.text import Unit, format_interval

# What a figure of the record means, said at its field: the exported JSON Schema and every table read it there.


Better = Literal["lower", "higher", "none"]
Group = Literal[
    "speed", "first generation", "single steps", "proposed tokens", "memory", "pass check", "energy", "limit"
]  # in the tables' order
# Those that no table shows come last: "1" has no dimension, a figure's parts have the unit of the field that holds it.
FigureUnit = Unit | Literal["tokens", "index", "logits", "nats", "MHz", "°C", "1", "of its field", "of its axis"]


def figure(
    title: str,
    unit: FigureUnit,
    better: Better,
    description: str,
    group: Group | None = None,
    *,
    column: str | None = None,
    default: Any = PydanticUndefined,
    gt: float | None = None,
) -> Any:
    """A field that holds a figure: what it is called, is in, which direction is better, and how it came to be.

    What readers are shown of every arm has a `group`, and a `column` in exports where the field's name would not do.
    """
    shown = {name: value for name, value in (("group", group), ("column", column)) if value is not None}
    meaning: dict[str, Any] = {"unit": unit, "better": better, **shown}
    return Field(default, title=title, description=description, gt=gt, json_schema_extra=meaning)


def unit_of(field: FieldInfo) -> Unit:
    """The unit in which a figure is shown."""
    return cast(Unit, cast(dict[str, Any], field.json_schema_extra)["unit"])


NOT_KNOWN = "not known"  # a defect: every null has its sentence, and a test looks for this one
# Beside the fields in an object's dictionary, since they are no part of the record.
UNIT = "_unit"
WHY = "_why_null"


BOUNDS = {"int": (-LARGEST_INTEGER, LARGEST_INTEGER), "float": (-LARGEST, LARGEST)}


def _bound(schema: Any) -> None:
    """An integer beyond 64 bits, or a number whose square is none, is refused wherever it stands."""
    if isinstance(schema, dict):
        least, most = BOUNDS.get(str(schema.get("type")), (None, None))
        if most is not None:
            schema.setdefault("le", most)
            if "gt" not in schema:
                schema.setdefault("ge", least)
        for inner in schema.values():
            _bound(inner)
    elif isinstance(schema, (list, tuple)):
        for inner in schema:
            _bound(inner)


@dataclass_transform(kw_only_default=True, field_specifiers=(Field, figure))
class Part(BaseModel):
    """Base of the record's parts: immutable, no unknown fields, no NaN or infinity.

    `WHY_NULL` has the sentence for each field that may be null, for `field/*` of what is inside of it and for `*`, any
    other; whoever makes a part and knows better says so with `because`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    WHY_NULL: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As pydantic makes it, with every number bounded: a record may come from anybody."""
        schema = handler(source)
        _bound(schema)
        return schema

    def because(self, reasons: Mapping[str, str]) -> Self:
        """The same part, with why fields of it are null, by name; a field that is not null needs no reason."""
        copy = self.model_copy()
        copy.__dict__[WHY] = {**self.__dict__.get(WHY, {}), **reasons}
        return copy

    def said_why(self, field: str) -> str | None:
        """What whoever made the part said about a null of it; None where nobody did."""
        said: dict[str, str] = self.__dict__.get(WHY, {})
        return said.get(field)

    def why_null(self, field: str) -> str:
        """Why a field is null, or an entry of one that is a mapping: `field/entry`."""
        inside, _, entry = field.partition("/")
        usual = self.WHY_NULL
        return self.said_why(field) or usual.get(field) or usual.get(f"{inside}/*" if entry else "*") or NOT_KNOWN


class SeriesPoint(Part):
    """Base of the points of long series: hundreds of them share one reason, which stands at the series itself."""


class Figure(Part):
    """A figure with its interval; `level` is the coverage attained, of which there is none without a figure."""

    estimator: str
    value: float | None = figure("figure", "of its field", "none", "The figure itself.")
    ci_low: float | None = figure(
        "interval, lower end", "of its field", "none", "Lower end of the confidence interval.", default=None
    )
    ci_high: float | None = figure(
        "interval, upper end", "of its field", "none", "Upper end of the confidence interval.", default=None
    )
    level: float | None = figure(
        "coverage", "ratio", "none", "Share of such intervals that hold the true value.", default=None
    )

    def why_null(self, field: str) -> str:
        """Without a figure there is no interval either, whatever the number of blocks."""
        return super().why_null("value" if self.value is None else field)


class Speedup(Figure):
    """Candidate over baseline: above 1 the candidate is faster."""

    WHY_NULL = MappingProxyType(
        {"value": "no block has this figure in both arms", "*": "an interval needs at least 2 blocks"}
    )

    n_blocks: int = figure("blocks", "count", "none", "Pairs of blocks behind the figure.")

    def __str__(self) -> str:
        return format_interval(self.value, self.ci_low, self.ci_high, "times")


class Estimate(Figure):
    """A figure with its interval; `level` is the coverage attained, `n` the samples (blocks) behind it."""

    WHY_NULL = MappingProxyType(
        {"value": "no block has this figure", "*": "an exact interval of a median needs at least 6 blocks"}
    )

    n: int = figure("samples", "count", "none", "Blocks behind the figure.")

    def __str__(self) -> str:
        return format_interval(self.value, self.ci_low, self.ci_high, self.__dict__.get(UNIT, "count"))


class Measured(Part):
    """Base of the parts that hold estimates: `str` of one shows it in the unit that its field says."""

    def model_post_init(self, _context: Any) -> None:
        """Tell each estimate its unit."""
        for name, value in self.__dict__.items():
            if isinstance(value, Estimate):
                value.__dict__[UNIT] = unit_of(type(self).model_fields[name])


def shared(part: type[Part], sample: object) -> dict[str, Any]:
    """The fields of a part that a sample has by the same names: what is derived takes over the rest as it is."""
    return {name: getattr(sample, name) for name in part.model_fields if hasattr(sample, name)}


def null_reasons(part: Part, leave_out: Collection[str] = ()) -> dict[str, str]:
    """JSON pointer to sentence for every null inside of a part, but for the fields left out."""
    reasons: dict[str, str] = {}
    for pointer, sentence in _nulls(part, "", leave_out):
        reasons.setdefault(pointer, sentence)
    return reasons


def _nulls(part: Part, pointer: str, leave_out: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    for name in type(part).model_fields:
        if name not in leave_out:
            at = pointer.rpartition("/")[0] if isinstance(part, SeriesPoint) else f"{pointer}/{name}"
            yield from _inside(part, name, getattr(part, name), at)


def _inside(part: Part, path: str, value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """The nulls in the value of a part's field, or of an entry inside of it, whose `path` is `field/entry`."""
    if value is None:
        yield pointer, part.why_null(path)
    elif isinstance(value, Part):
        yield from _nulls(value, pointer)
    elif isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if item is None or isinstance(item, (Part, dict, list, tuple)):  # thousands of tokens are none of them
                yield from _inside(part, f"{path}/{key}", item, f"{pointer}/{_escaped(str(key))}")


def _escaped(key: str) -> str:
    """As RFC 6901 has it."""
    return key.replace("~", "~0").replace("/", "~1")
