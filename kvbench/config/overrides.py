"""Overrides as people type them: in Hydra's terms, and Hydra's own settings refused where they have no effect."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from kvbench.arm import PARTS
from kvbench.config.conf_files import conf_folder, groups
from kvbench.config.spelling import is_hub_id, unknown_arm_key
from kvbench.errors import Mistyped

BACKSLASHES = re.compile(r"(\\*)('|$)")
FOLDER_STARTS = ("./", "../", "/", "~")
HUB = "https://huggingface.co/"
# Of several files of these groups Hydra would take the last without a word.
ONE_CHOICE = ("cache", "check", "engine", "measure", "mode", "model", "sampling", "workload")
# Keys whose mapping no schema lists: what a factory takes, what a transformers config holds.
OPEN_MAPPINGS = ("model.options", "model.architecture")

OBEYED = "hydra.searchpath"  # further folders of configuration files
ELSEWHERE = "results go below results_dir: use results_dir=FOLDER"
ON_THE_COMMAND_LINE = "a launcher runs the points of a sweep: give it on the command line, with -m"
NO_LOGGING = "nothing is logged through Hydra, and what a run prints is in its stdout.log; leave it out"
# The remedy for a setting and all below it; the first that fits counts. Groups are written with dots here.
REMEDIES = {
    "hydra.run": ELSEWHERE,
    "hydra.sweep": ELSEWHERE,
    "hydra.output_subdir": ELSEWHERE,
    "hydra.output": ELSEWHERE,
    "hydra.mode": "-m asks for a sweep, and leaving -m out for a single run; leave hydra.mode out",
    "hydra.launcher": ON_THE_COMMAND_LINE,
    "hydra.sweeper.params": "write these values as overrides, with -m, such as -m mode=cached,nocache",
    "hydra.sweeper": "kvbench expands a sweep itself; leave it out",
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


def in_hydras_terms(overrides: Sequence[str], config_folders: Iterable[Path]) -> list[str]:
    """The overrides as Hydra takes them; `config_folders` are where its groups are."""
    folders = tuple(config_folders)
    return [each for override in overrides for each in _rewritten(override, folders)]


def _rewritten(override: str, folders: tuple[Path, ...]) -> list[str]:
    key, equals, text = override.partition("=")
    if key in ONE_CHOICE and isinstance(chosen := _value(override), list):
        together = f"; both in one run are arms=[{','.join(map(str, chosen))}]" if key == "mode" else ""
        raise Mistyped(
            f"{override}: takes one choice{together}; one run after the other is -m {key}={','.join(map(str, chosen))}"
        )
    group = key.lstrip("+")
    if group in groups() and _is_nested(_value(override)):
        raise Mistyped(f"{override}: {group} takes the name of one of its files, or several as [a,b]")
    if key == "model" and equals:
        return _model(override, text, folders)
    if key in ("arms", "+arms", "++arms") and equals:
        return [_arms_as_words(override, key)]
    if equals and any(key == name or key.startswith(f"{name}.") for name in OPEN_MAPPINGS):
        return [f"++{override}"]
    return [override]


def _model(override: str, text: str, folders: tuple[Path, ...]) -> list[str]:
    name = text if text.startswith("~") else _value(override)  # Hydra's grammar has no ~
    if not isinstance(name, str):
        return [override]
    name = name.removeprefix(HUB)
    # A path is no ready file, whatever its last part is called.
    if name.startswith(FOLDER_STARTS) or name in (".", ".."):
        return ["model=path", f"model.path={in_grammar(name)}"]
    if any((folder / "model" / f"{name}.yaml").is_file() for folder in folders):
        return [override]
    if name and Path(name).is_dir():
        return ["model=path", f"model.path={in_grammar(name)}"]
    identity, at, revision = name.partition("@")
    if at and is_hub_id(identity):
        raise Mistyped(
            f"model={name}: a commit, tag or branch has a key; write model={identity} model.revision={revision}"
        )
    if is_hub_id(name):
        return ["model=hub", f"model.id={in_grammar(name)}"]
    return [override]


def _arms_as_words(override: str, key: str) -> str:
    """Each word of the list as the arm of that mode. Raises `ConfigError` for a key that no arm has."""
    value = _value(override)
    if not isinstance(value, list):
        return override
    for index, item in enumerate(value):
        for name in item if isinstance(item, dict) else ():
            if name not in PARTS:
                raise unknown_arm_key(f"arms[{index}]", str(name))
    if not any(isinstance(item, str) for item in value):
        return override
    return f"{key}={in_grammar([{'mode': item} if isinstance(item, str) else item for item in value])}"


def _is_nested(value: Any) -> bool:
    """Whether a value is more than a word, a number or a list of these."""
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(each, (list, dict)) for each in value)
    )


def _value(override: str) -> Any:
    """What Hydra reads in an override; None where it reads nothing, and says so itself."""
    try:
        parsed = OverridesParser.create().parse_override(override)
        return None if parsed.is_sweep_override() else parsed.value()
    except HydraException:
        return None


def in_grammar(value: Any) -> str:
    """Plain data as a value of Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {in_grammar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(in_grammar, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    # Backslashes count as themselves, but for those before a quotation mark: they are doubled there.
    text = BACKSLASHES.sub(lambda found: found[1] * 2 + ("\\'" if found[2] else ""), str(value))
    return f"'{text}'"


def named_keys(overrides: Collection[str]) -> frozenset[str]:
    """The keys that overrides name, with the groups above them."""
    keys = (override.partition("=")[0].lstrip("+~").split(".") for override in overrides)
    return frozenset(".".join(parts[:end]) for parts in keys for end in range(1, len(parts) + 1))


# Hydra's own settings: obeyed where that is honest, else refused by name, wherever they are written.
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
