"""Hydra's composition of `conf/` into a checked `Config`, its errors in one line each, and a sweep's points."""

from __future__ import annotations

import copy
import itertools
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)

from kvbench.config.conf_files import conf_folder, escaped, yaml_text
from kvbench.config.foreign import is_foreign, read_with_care, require_confirmed, require_readable
from kvbench.config.overrides import (
    OBEYED,
    in_hydras_terms,
    named_keys,
    require_no_settings,
    require_our_groups,
    require_ours,
)
from kvbench.config.rules import check
from kvbench.config.schema import Config
from kvbench.config.spelling import stray_word, unknown_key, unknown_value
from kvbench.errors import ConfigError, Mistyped, reason_of
from kvbench.text import shortened

# What Hydra and OmegaConf raise: an assertion where an override reaches into a value that is null, a recursion where
# lists are nested by the hundred.
REFUSALS = (
    *(HydraException, OmegaConfBaseException, yaml.YAMLError),
    *(ValueError, AssertionError, RecursionError, OverflowError, OSError),
)
MOST_POINTS = 100_000  # of a sweep: its points are held as long as it runs
DEEPEST = 40  # brackets inside of each other; an override has three or four


@dataclass(frozen=True)
class Sources:
    """Where configuration files are looked for: ours, then the user's `--config-dir`."""

    config_path: Path
    config_name: str = "config"
    config_dir: Path | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that hold groups."""
        return (self.config_path, *([self.config_dir] if self.config_dir else []))


def sources(config_dir: str | None = None, config_path: str | None = None, config_name: str | None = None) -> Sources:
    """Where to look, from the command line's options. Raises `ConfigError` when a folder does not exist."""
    for flag, folder in (("--config-dir", config_dir), ("--config-path", config_path)):
        if folder is not None and not os.path.isdir(folder):  # noqa: PTH112 - which a name that is too long makes no error
            raise ConfigError(f"{flag} {folder}: no such folder")
    return Sources(
        Path(config_path).resolve() if config_path else conf_folder(),
        (config_name or "config").removesuffix(".yaml"),
        Path(config_dir).resolve() if config_dir else None,
    )


def load_config(overrides: Sequence[str], where: Sources) -> Config:
    """Compose and check one configuration. Raises `ConfigError`, one line that names the key."""
    config = compose_config(overrides, where)
    check(config, named_keys(overrides))
    return config


def compose_config(overrides: Sequence[str], where: Sources) -> Config:
    """One configuration, composed and not checked. Raises `ConfigError` as `load_config` does."""
    try:
        # As plain data first: a key added with `+` must meet the schema too. What is resolved is not resolved again.
        plain: Any = escaped(OmegaConf.to_container(_composed(overrides, where), resolve=True))
        config = OmegaConf.to_object(OmegaConf.merge(_schema(), plain))  # which copies it
    except REFUSALS as error:
        raise Mistyped(str(in_one_line(error, overrides))) from error
    assert isinstance(config, Config)
    return config


@cache
def _schema() -> DictConfig:
    """Every key with its type and default: an eighth of a composition's time. For all, so not to be changed."""
    schema: DictConfig = OmegaConf.structured(Config)
    return schema


def has_interpolations(overrides: Sequence[str], where: Sources) -> bool:
    """Whether any value of a configuration refers to another. Raises `ConfigError` as `load_config` does."""
    try:
        return "${" in OmegaConf.to_yaml(_composed(overrides, where))
    except REFUSALS as error:
        raise in_one_line(error, overrides) from error


def _composed(overrides: Sequence[str], where: Sources) -> DictConfig:
    ConfigStore.instance().store(name="schema", node=Config)
    _require_shallow(overrides)
    searchpath = [f"hydra.searchpath=['file://{where.config_dir}']"] if where.config_dir else []
    require_ours(overrides)
    if searchpath and any(OBEYED in override for override in overrides):
        raise Mistyped(f"{OBEYED} and --config-dir: one would take the other's place; give all folders in {OBEYED}")
    file = where.config_path / f"{where.config_name}.yaml"
    require_readable(file)
    in_terms = in_hydras_terms(overrides, where.folders)
    careful = read_with_care(where.config_path, conf_folder())
    with initialize_config_dir(str(where.config_path), version_base="1.3"), careful:
        try:
            with warnings.catch_warnings():  # Hydra's, on files that are searched for and lists without _self_
                warnings.simplefilter("ignore", UserWarning)
                composed = compose(where.config_name, overrides=[*searchpath, *in_terms], return_hydra_config=True)
        except MissingConfigException as error:
            require_our_groups(error)
            raise
    if where != Sources(conf_folder()) or any(OBEYED in override for override in overrides):
        require_no_settings(composed)  # ours make none
    added = [Path(str(each).removeprefix("file://")) for each in composed.hydra.searchpath or ()]
    for folder in added:
        if not os.path.isdir(folder):  # noqa: PTH112 - as above
            raise ConfigError(f"{OBEYED}: {folder}: no such folder; write file:// and the whole path")
    with open_dict(composed):
        del composed["hydra"]
    if is_foreign(where.config_path, added, conf_folder()):
        require_confirmed(composed, in_terms, file)
    return composed


def _require_shallow(overrides: Sequence[str]) -> None:
    """Raise `Mistyped` for lists so deep that reading them takes longer than anybody waits."""
    for override in overrides:
        depth = deepest = 0
        for letter in override:
            depth += (letter in "[{(") - (letter in "]})")
            deepest = max(deepest, depth)
        if deepest > DEEPEST:
            raise Mistyped(f"{shortened(override)}: lists and mappings are nested deeper than {DEEPEST}")


def to_yaml(config: Config) -> str:
    """The resolved configuration, such that composing it again gives an equal one."""
    return yaml_text(asdict(config))


def to_dict(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain data."""
    return asdict(config)


def in_one_line(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """What Hydra, OmegaConf or YAML complain about, in our words."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, MissingConfigException):
        return _missing_file(error)
    if isinstance(error, OverrideParseException):
        word = str(error.override)
        following = dict(itertools.pairwise(overrides)).get(word)
        return ConfigError(
            ("=" not in word and stray_word(word, following))
            or f"{word!r}: not in Hydra's grammar; write key=value, lists as [a,b], text in quotes"
        )
    if isinstance(error, AssertionError):
        inside = next((each for each in overrides if each.lstrip("+~").startswith("arms.")), " ".join(overrides))
        return ConfigError(f"{inside}: reaches into a list that is not there; give the whole, arms=[{{mode: cached}}]")
    if isinstance(error, RecursionError):
        return ConfigError(f"{_longest(overrides)}: values are nested too deeply, or refer to each other in a circle")
    if isinstance(error, OSError):
        return ConfigError(f"configuration file {error.filename}: cannot read ({error.strerror})")
    if isinstance(error, yaml.YAMLError):
        return ConfigError(f"configuration file is not valid YAML: {' '.join(str(error).split())}")
    text = str(error)
    if sweep := re.search(r"Ambiguous value for argument '(.*?)'", text):
        return ConfigError(f"{sweep[1]}: several values are a sweep, which needs -m; a list is written [a,b]")
    in_file = re.match(r"In '(?P<file>[^']+)': (?P<rest>.*)", text, re.DOTALL)
    if in_file and (key := re.search(r"full_key: (\S+)", in_file["rest"])):
        return ConfigError(f"conf file {in_file['file']}.yaml: {_sentence(in_file['rest'], key[1])}")
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
        return _unknown(str(cause.full_key), overrides)
    if isinstance(cause, ValidationError):
        if any(override.lstrip("+~").startswith(f"{cause.full_key}.") for override in overrides):
            return _unknown(str(cause.full_key), overrides)  # a key below one that has a value and no keys
        return ConfigError(_sentence(str(cause), str(cause.full_key or "configuration")))
    if merged := re.match(r"Error merging override (?P<override>[^\s=]+=?)", text):
        removed = merged["override"].startswith("~")
        why = "is always there; set another value instead" if removed else "of another form than the key's value"
        return ConfigError(f"{merged['override']}{'' if removed else '…'}: {why}; --help lists the keys")
    if "Config group override must be" in text:
        nulled = next((each for each in overrides if each.endswith("=null") and "." not in each), "a group=null")
        return ConfigError(f"{nulled}: takes one choice; leave it out for the default")
    if isinstance(cause, (InterpolationResolutionError, InterpolationKeyError)):
        return _interpolation(cause)
    if "integer string conversion" in text:
        return ConfigError(f"{_longest(overrides)}: a number of more digits than Python reads")
    return ConfigError(shortened(text.split("\n")[0]))


def _longest(overrides: Sequence[str]) -> str:
    return shortened(max(overrides, key=len, default="configuration"))


def _interpolation(error: OmegaConfBaseException) -> ConfigError:
    """A value that refers to another, `${other.key}`, or asks a resolver, `${oc.env:NAME}`, in vain."""
    key, text = error.full_key or "configuration", str(error)
    if variable := re.search(r"Environment variable '(.*?)' not found", text):
        return ConfigError(f"{key}: the environment variable {variable[1]} is not set")
    if missing := re.search(r"Interpolation key '(.*?)' not found", text):
        return ConfigError(f"{key}: refers to ${{{missing[1]}}}, and there is no such key; a $ itself is written \\$")
    if "Recursive interpolation" in text:
        return ConfigError(f"{key}: refers to itself")
    return ConfigError(f"{key}: refers to something that cannot be found ({shortened(text.splitlines()[0])})")


def _unknown(key: str, overrides: Sequence[str]) -> ConfigError:
    """The error for a key that does not exist, which one of the overrides may have named."""
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    name, _, value = next((pair for pair in pairs if pair[0] == key or pair[0].startswith(f"{key}.")), (key, "", ""))
    return unknown_key(name, value or None)


def _sentence(message: str, key: str) -> str:
    """OmegaConf's complaint about one key in our words."""
    if found := re.search(r"Value '(?P<value>.*)' of type '\w+' could not be converted to (?P<type>\w+)", message):
        return f"{key}={found['value']}: must be of type {found['type'].lower()}"
    if "is not a ListConfig" in message:
        return f"{key}: must be a list, such as [1,2]"
    if "Incompatible value 'None'" in message or "is not Optional" in message:
        return f"{key}=null: needs a value"
    if found := re.search(r"Value '(?P<value>.*)' is not a valid bool", message):
        return f"{key}={found['value']}: must be true or false"
    if "not in '" in message:
        return str(unknown_key(key))
    return f"{key}: {message.splitlines()[0]}"


def _missing_file(error: MissingConfigException) -> ConfigError:
    missing = str(error.missing_cfg_file)
    if ".." in missing.split("/"):
        return ConfigError(f"the defaults of a configuration file lead out of its folder ({shortened(missing)})")
    group, _, option = missing.rpartition("/")
    if not group:
        return ConfigError(f"configuration {missing}: no such file in the folder given")
    extra = "; any other: model=ORG/NAME of the hub, or model=./FOLDER" if group == "model" else ""
    return ConfigError(f"{unknown_value(group, option, sorted(error.options or ()))}{extra}")


# The points of a sweep, and their configurations, composed once for all that differ in plain values only.


Point = tuple[str, ...]
GROUPS = {field.name for field in fields(Config) if is_dataclass(getattr(Config(), field.name))}
ONCE_PER_SWEEP = ("jobs", "launch", "results_dir", "report")  # its points share a worker, a root and a report


def sweep_points(overrides: Sequence[str], where: Sources) -> Iterator[Point]:
    """The points of a sweep, each a tuple of overrides, in the order of Hydra's own sweeper.

    Raises `ConfigError` when an override is not in Hydra's grammar or is a setting of Hydra's without effect here.
    """
    _require_shallow(overrides)
    require_ours(overrides)
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except REFUSALS as error:
        raise in_one_line(error, overrides) from error
    for override in parsed:
        if override.key_or_group in ONCE_PER_SWEEP and override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: a sweep has one {override.key_or_group}; give one value")
    choices = [_choices(override, where) for override in parsed]
    if math.prod(map(len, choices)) > MOST_POINTS:
        raise ConfigError(f"the sweep would have more than {MOST_POINTS:,} points; split it into several")
    return itertools.product(*choices)


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
    try:
        values = list(itertools.islice(override.sweep_string_iterator(), MOST_POINTS + 1))
    except REFUSALS as error:
        raise ConfigError(
            f"{shortened(str(override.input_line))}: not a list of values ({reason_of(error)})"
        ) from error
    return [f"{key}={choice}" for choice in values]


def _group_options(group: str, where: Sources) -> list[str]:
    return sorted({file.stem for folder in where.folders for file in (folder / group).glob("*.yaml")})


def load_points(points: Sequence[Point], where: Sources) -> Iterator[Config | ConfigError]:
    """What `load_config` would say of each point, in their order."""
    loader = PointLoader(points, where)
    for point in points:
        try:
            yield loader.load(point)
        except ConfigError as error:
            yield error


class PointLoader:
    """Loads points of one sweep, in any order.

    Hydra's composition takes tens of milliseconds. Points that differ in values such as `model.seed=3` share one, and
    each sets its own values in a copy; whatever is more than that, or goes wrong, is composed by itself.
    """

    def __init__(self, points: Sequence[Point], where: Sources) -> None:
        self._where = where
        self._shared = set(points[0]).intersection(*points[1:]) if points else set()
        self._bases: dict[Point, Config | None] = {}

    def load(self, point: Point) -> Config:
        """One point's configuration. Raises `ConfigError` as `load_config` does."""
        own = [each for each in point if each not in self._shared]
        keys = [override.partition("=")[0] for override in point]
        # Of two values for one key the later counts: an order that only the whole composition knows.
        values = _plain_values(own) if len(set(keys)) == len(keys) else {}
        config = None
        if values:
            rest = tuple(override for override in point if override not in values)
            if rest not in self._bases:
                self._bases[rest] = _base(rest, self._where)
            config = _with_values(self._bases[rest], values, point)
        return config or load_config(point, self._where)


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
