"""What a figure of the record means, said at its field: the exported JSON Schema and every table read it there."""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kvbench.text import Unit

Better = Literal["lower", "higher", "none"]
Group = Literal["speed", "first visit", "single steps", "memory", "proof", "energy", "limit"]  # in the tables' order
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
