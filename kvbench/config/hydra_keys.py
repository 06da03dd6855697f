"""Hydra's own settings: obeyed where that is honest, else refused by name, wherever they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from kvbench.config.locations import conf_folder
from kvbench.errors import Mistyped

OBEYED = "hydra.searchpath"  # further folders of configuration files
ELSEWHERE = "results go below results_dir: use results_dir=FOLDER"
ONE_DEVICE = (
    "kvbench runs the points of a sweep one after another on one device, because timed runs must not share it;"
    " leave it out"
)
NO_LOGGING = "nothing is logged through Hydra, and what a run prints is in its stdout.log; leave it out"
# The remedy for a setting and all below it; the first that fits counts. Groups are written with dots here.
REMEDIES = {
    "hydra.run": ELSEWHERE,
    "hydra.sweep": ELSEWHERE,
    "hydra.output_subdir": ELSEWHERE,
    "hydra.output": ELSEWHERE,
    "hydra.mode": "-m asks for a sweep, and leaving -m out for a single run; leave hydra.mode out",
    "hydra.launcher": ONE_DEVICE,
    "hydra.sweeper.params": "write these values as overrides, with -m, such as -m mode=cached,nocache",
    "hydra.sweeper": ONE_DEVICE,
    "hydra.job.chdir": "a run stays in the folder that it was started from; leave it out",
    "hydra.job.name": "use name=NAME",
    "hydra.job.env_set": "set environment variables in the shell",
    "hydra.job.env_copy": "the worker process has all environment variables; leave it out",
    "hydra.job_logging": NO_LOGGING,
    "hydra.hydra_logging": NO_LOGGING,
    "hydra.verbose": NO_LOGGING,
    "hydra.callbacks": "kvbench calls no callbacks; leave it out",
}
# What a composition itself fills in.
FILLED_IN = (
    *("hydra.runtime", "hydra.overrides", OBEYED),
    *(f"hydra.job.{name}" for name in ("config_name", "override_dirname", "id", "num")),
)


def require_ours(overrides: Sequence[str]) -> None:
    """Raise `Mistyped` for an override of a Hydra setting without effect here, or for values that have no list."""
    for written in overrides:
        if "hydra" not in written and "interval" not in written:
            continue  # most are neither, and a sweep has thousands
        try:
            override = OverridesParser.create().parse_override(written)
        except HydraException:
            continue  # told by the composition
        if override.is_interval_sweep():
            raise Mistyped(
                f"{written}: an interval has no list of values; write {override.key_or_group}=1,2,4 or range(1,9,2),"
                " with -m"
            )
        key = override.key_or_group.replace("/", ".")
        if key.partition(".")[0] == "hydra" and key != OBEYED:
            raise Mistyped(f"{written}: {_remedy(_first_leaf(key, override))}")


def require_no_settings(composed: DictConfig) -> None:
    """Raise `Mistyped` for a Hydra setting that a configuration file makes, given its whole composition."""
    for group, chosen in composed.hydra.runtime.choices.items():
        if group.startswith("hydra/") and chosen != _usual()[f"hydra.runtime.choices.{group}"]:
            raise _in_a_file(f"override {group}: {chosen}", group.replace("/", "."))
    for key, value in _leaves("hydra", OmegaConf.to_container(composed.hydra, resolve=False)):
        if not _is_within(key, FILLED_IN) and value != _usual().get(key):
            raise _in_a_file(f"{key}={getattr(value, 'name', value)}", key)


def require_our_groups(error: MissingConfigException) -> None:
    """Raise `Mistyped` where the file that is missing belongs to a group of Hydra's: not for want of a plugin."""
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if group.startswith("hydra/"):
        raise _in_a_file(f"override {group}: {option}", group.replace("/", ".")) from error


def _in_a_file(setting: str, key: str) -> Mistyped:
    return Mistyped(f"{setting}, set in a configuration file: {_remedy(key)}")


def _first_leaf(key: str, override: Override) -> str:
    """The key with those of its mapping, so that `hydra.sweeper={params: …}` is told like `hydra.sweeper.params`."""
    value = override.value()
    while isinstance(value, Mapping) and value:
        first, value = next(iter(value.items()))
        key = f"{key}.{first}"
    return key


def _remedy(key: str) -> str:
    return next(
        (remedy for setting, remedy in REMEDIES.items() if _is_within(key, (setting,))),
        "has no effect in kvbench; leave it out",
    )


def _is_within(key: str, settings: Sequence[str]) -> bool:
    return any(f"{key}.".startswith(f"{setting}.") for setting in settings)


@cache
def _usual() -> dict[str, Any]:
    """Hydra's own settings, where nobody has set any."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose(overrides=[], return_hydra_config=True)
    return dict(_leaves("hydra", OmegaConf.to_container(composed.hydra, resolve=False)))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(f"{key}.{name}", each)
    else:
        yield key, value
