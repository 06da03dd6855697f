"""The one rule for all keys: a value that would change nothing is refused, with the reason and the remedy."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from kvbench.config.arms import written_arms
from kvbench.config.schema import Config, settings
from kvbench.errors import ConfigError

OF_ONE_ARM = re.compile(r"arms\[(\d+)\]\.")
CHECKPOINTS = ("hub", "path", "random")  # sources whose ready file may say more of a model than one of them needs


def check_effects(config: Config, named: Collection[str] = ()) -> None:
    """Raise `ConfigError` for the first key that is set where it has no effect.

    Set is what differs from the key's default, wherever it was set: a file's value that an override made useless is
    refused like a typed one, because the record would hold it as if it had counted. Only what describes a model may
    stand in its ready file without being used. `named` are the keys that the caller's overrides name.
    """
    arms = written_arms(config)
    for key, value, metadata in settings(config):
        if value in (metadata["default"], metadata["off"]) or _describes(key, metadata, config, named):
            continue
        of_one = OF_ONE_ARM.match(key)
        about = arms if of_one is None else (arms[int(of_one[1])],)
        for condition in metadata["effective"]:
            if not condition.holds(config, about):
                words = {"key": key, "value": value, "config": config}
                remedy = condition.remedy.format(**words)
                raise ConfigError(
                    f"{_set(key, value, named)}: has no effect {condition.why.format(**words)};"
                    f" {remedy + ', or ' if remedy else ''}{_removal(key, metadata['default'], named)}"
                )


def named_keys(overrides: Collection[str]) -> frozenset[str]:
    """The keys that overrides name, with the groups above them."""
    keys = (override.partition("=")[0].lstrip("+~").split(".") for override in overrides)
    return frozenset(".".join(parts[:end]) for parts in keys for end in range(1, len(parts) + 1))


def _describes(key: str, metadata: dict[str, Any], config: Config, named: Collection[str]) -> bool:
    return bool(metadata["described"]) and config.model.weights in CHECKPOINTS and key not in named


def _set(key: str, value: Any, named: Collection[str]) -> str:
    """What was set: of a mapping the key that was typed, since the whole of it may fill the terminal."""
    if isinstance(value, dict):
        return max((each for each in named if each.startswith(f"{key}.")), key=len, default=key)
    return f"{key}={_shown(value)}"


def _removal(key: str, default: Any, named: Collection[str]) -> str:
    """How to take the value away: what came from a file is set back."""
    if not named or key in named or key.startswith("arms[") or isinstance(default, (list, dict)):
        return "remove it"
    return f"set {key}={'null' if default is None else _shown(default)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
