"""The points of a sweep, and their configurations, composed once for all that differ in plain values only."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kvbench.config.compose import Sources, compose_config, has_interpolations, in_one_line, load_config
from kvbench.config.overrides import named_keys, require_ours
from kvbench.config.rules import check
from kvbench.config.schema import Config
from kvbench.errors import ConfigError

Point = tuple[str, ...]
GROUPS = {field.name for field in fields(Config) if is_dataclass(getattr(Config(), field.name))}
ONCE_PER_SWEEP = ("launch", "results_dir", "report")  # its points share a worker, a root and a report


def sweep_points(overrides: Sequence[str], where: Sources) -> Iterator[tuple[str, ...]]:
    """The points of a sweep, each a tuple of overrides, in the order of Hydra's own sweeper.

    Raises `ConfigError` when an override is not in Hydra's grammar or is a setting of Hydra's without effect here.
    """
    require_ours(overrides)
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise in_one_line(error, overrides) from error
    for override in parsed:
        if override.key_or_group in ONCE_PER_SWEEP and override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: a sweep has one {override.key_or_group}; give one value")
    return itertools.product(*(_choices(override, where) for override in parsed))


def _choices(override: Override, where: Sources) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element()
    value = override.value()
    if isinstance(value, Glob):
        names = value.filter(_group_options(override.key_or_group, where))
        if not names:
            raise ConfigError(f"{override.input_line}: matches no file of the group {override.key_or_group}")
        return [f"{key}={name}" for name in names]
    return [f"{key}={choice}" for choice in override.sweep_string_iterator()]


def _group_options(group: str, where: Sources) -> list[str]:
    return sorted({file.stem for folder in where.folders for file in (folder / group).glob("*.yaml")})


def load_points(points: Sequence[Point], where: Sources) -> Iterator[Config | ConfigError]:
    """What `load_config` would say of each point, in their order.

    Hydra's composition takes tens of milliseconds. Points that differ in values such as `model.seed=3` share one, and
    each sets its own values in a copy; whatever is more than that, or goes wrong, is composed by itself.
    """
    shared = set(points[0]).intersection(*points[1:]) if points else set()
    bases: dict[Point, Config | None] = {}
    for point in points:
        keys = [override.partition("=")[0] for override in point]
        # Of two values for one key the later counts: an order that only the whole composition knows.
        values = _plain_values([each for each in point if each not in shared]) if len(set(keys)) == len(keys) else {}
        try:
            if values:
                rest = tuple(override for override in point if override not in values)
                if rest not in bases:
                    bases[rest] = _base(rest, where)
                config = _with_values(bases[rest], values, point)
            else:
                config = None
            yield config or load_config(point, where)
        except ConfigError as error:
            yield error


def _base(overrides: Point, where: Sources) -> Config | None:
    """The configuration without the values of single points; None where those could reach beyond their own key."""
    try:
        if has_interpolations(overrides, where):
            return None
        return compose_config(overrides, where)
    except ConfigError:
        return None


def _plain_values(overrides: Sequence[str]) -> dict[str, tuple[str, str, Any]]:
    """Those of the form group.key=value, as (group, key, value); empty when one of them is not in the grammar."""
    found = {}
    for override in overrides:
        group, dot, key = override.partition("=")[0].partition(".")
        if not dot or group not in GROUPS or "." in key:
            continue
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException:
            return {}
        value = parsed.value()
        if parsed.type == OverrideType.CHANGE and parsed.package is None and not isinstance(value, dict):
            found[override] = (group, key, value)
    return found


def _with_values(base: Config | None, values: dict[str, tuple[str, str, Any]], point: Point) -> Config | None:
    """A checked copy of the base with these values, converted as OmegaConf converts them; None when it refuses one.

    Raises `ConfigError` where the whole is not allowed.
    """
    if base is None:
        return None
    config = copy.deepcopy(base)
    for group in {group for group, _, _ in values.values()}:
        try:
            node = OmegaConf.structured(getattr(config, group))
            for owner, key, value in values.values():
                if owner == group:
                    OmegaConf.update(node, key, value, merge=True)
                setattr(config, group, OmegaConf.to_object(node))
        except (OmegaConfBaseException, ValueError):
            return None
    check(config, named_keys(point))
    return config
