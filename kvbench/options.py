"""How a key is declared: its default, its meaning, its range, and when it has an effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

RELEVANT_WITHIN_A_RUN = 0.01  # relative: within one session, smaller differences are nothing to act upon
RELEVANT_ACROSS_RUNS = 0.05  # across sessions, less moves by itself


@dataclass(frozen=True)
class Condition:
    """Something that must hold for a key to have an effect.

    `holds` gets the configuration and the arms that the key is about: all of the run, or the one that it belongs to.
    `why` completes "KEY=VALUE has no effect …", `remedy` says what would give it one; both may name `{key}`,
    `{value}` and what is in `{config}`.
    """

    holds: Callable[[Any, Sequence[Any]], bool]  # a Config and its Arms, whose fields name these conditions
    why: str
    remedy: str = ""


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] | None = None,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    effective: tuple[Condition, ...] = (),
    off: Any = None,
    described: bool = False,
) -> Any:
    """A field with its meaning, its range, and when it has an effect.

    Parameters: `choices` lists the allowed values; `minimum` and `maximum` are inclusive bounds, `above` an
    exclusive one. A null value is always within range. Of `effective` all must hold, else a value other than the
    default and `off`, which asks for what happens anyway, is refused. What is `described` may also stand in a ready
    file of a model whose weights come from elsewhere (see `config.rules`).
    """
    metadata = {
        "help": help,
        "choices": choices,
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "default": default,
        "effective": effective,
        "off": off,
        "described": described,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def settings(part: Any, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every leaf of a configuration dataclass as (dotted key, value, metadata)."""
    for each in fields(part):
        value = getattr(part, each.name)
        key = prefix + each.name
        if is_dataclass(value):
            yield from settings(value, key + ".")
        elif isinstance(value, list) and value and all(is_dataclass(item) for item in value):
            for index, item in enumerate(value):
                yield from settings(item, f"{key}[{index}].")
        else:
            yield key, value, dict(each.metadata)


# Where the model comes from, which keys of every group depend on.
def with_weights(*sources: str, remedy: str = "") -> Condition:
    """The weights come from one of these sources."""
    return Condition(
        lambda config, _: config.model.weights in sources, "with model.weights={config.model.weights}", remedy
    )


def without_weights(*sources: str, remedy: str = "") -> Condition:
    """The weights come from none of these sources."""
    return Condition(
        lambda config, _: config.model.weights not in sources, "with model.weights={config.model.weights}", remedy
    )
