"""Everything that is measured of an arm, as the rows of one table: the console, the page and the exports read it.

A row is a field of the record that says its group. So is a share or a rate: `kvbench.analysis` computes it into the
record, where every reader finds it, and nothing is derived here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, get_args, get_origin

from kvbench.records.part import Better, Estimate, Group, Part
from kvbench.records.run_record import ArmRecord
from kvbench.report.names import format_estimate, format_exact
from kvbench.report.sentences import meaning
from kvbench.text import UNKNOWN, Unit, format_value

Figure = Estimate | float | None


@dataclass(frozen=True)
class Metric:
    """One measured figure. `path` leads to it inside an arm of run.json; `key` is its column in exports."""

    key: str
    title: str
    unit: Unit
    better: Better
    group: Group
    computed: str
    path: str
    has_interval: bool

    @property
    def name(self) -> str:
        """The title in the language that is spoken."""
        return meaning(f"figure.{self.key}") or self.title

    @property
    def explanation(self) -> str:
        """How it is computed, in the language that is spoken."""
        return meaning(f"computed.{self.key}") or self.computed

    def read(self, arm: ArmRecord) -> Figure:
        """The figure of one arm; None when it is unknown."""
        value: object = arm
        for name in self.path.split("/"):
            value = None if value is None else getattr(value, name)
        return cast(Figure, value)

    def value(self, arm: ArmRecord) -> float | None:
        """The figure of one arm without its interval."""
        figure = self.read(arm)
        return figure.value if isinstance(figure, Estimate) else figure

    def show(self, arm: ArmRecord) -> str:
        """The figure of one arm as people read it, an em dash when it is unknown."""
        figure = self.read(arm)
        if isinstance(figure, Estimate):
            return format_estimate(figure, self.unit)
        return format_value(figure, self.unit)

    def exact(self, arm: ArmRecord) -> str:
        """The figure of one arm as recorded."""
        return format_exact(self.value(arm), self.unit)

    def pointer(self, arm: int) -> str:
        """Where run.json holds the figure of one arm: the key of `null_reasons`."""
        return f"/arms/{arm}/{self.path}"

    def __str__(self) -> str:
        return self.title


def _metrics(part: type[Part], place: str = "") -> Iterator[Metric]:
    """The figures of a part that have a group, and those of the parts inside of it."""
    for name, field in part.model_fields.items():
        told: dict[str, Any] = cast(dict[str, Any], field.json_schema_extra or {})
        if "group" in told:
            yield Metric(
                key=told.get("column", name),
                title=field.title or name,
                unit=told["unit"],
                better=told["better"],
                group=told["group"],
                computed=field.description or "",
                path=f"{place}{name}",
                has_interval=field.annotation is Estimate,
            )
        kinds = get_args(field.annotation) or (field.annotation,)
        for kind in kinds if get_origin(field.annotation) is not tuple else ():
            if isinstance(kind, type) and issubclass(kind, Part) and kind is not Estimate:
                yield from _metrics(kind, f"{place}{name}/")


METRICS = tuple(sorted(_metrics(ArmRecord), key=lambda metric: get_args(Group).index(metric.group)))
BY_KEY = {metric.key: metric for metric in METRICS}


def unknown(metric: Metric, arm: ArmRecord) -> bool:
    """Whether the arm has no figure for this metric."""
    return metric.show(arm) == UNKNOWN
