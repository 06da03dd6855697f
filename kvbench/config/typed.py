"""What people type, in Hydra's terms: a model by its hub id or folder, arms as words, mappings with new keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from kvbench.config.spelling import ARM_KEYS, unknown_arm_key
from kvbench.errors import Mistyped

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
BACKSLASHES = re.compile(r"(\\*)('|$)")
FOLDER_STARTS = ("./", "../", "/", "~")
HUB = "https://huggingface.co/"
# Of several files of these groups Hydra would take the last without a word.
ONE_CHOICE = ("cache", "check", "engine", "measure", "mode", "model", "sampling", "workload")
# Keys whose mapping no schema lists: what a factory takes, what a transformers config holds.
OPEN_MAPPINGS = ("model.options", "model.architecture")


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
    if key == "model" and equals:
        return _model(override, text, folders)
    if key in ("arms", "+arms", "++arms") and equals:
        return [_arms(override, key)]
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


def is_hub_id(name: str) -> bool:
    """Whether a name has the form ORG/NAME."""
    return HUB_ID.fullmatch(name) is not None


def _arms(override: str, key: str) -> str:
    """Each word of the list as the arm of that mode. Raises `ConfigError` for a key that no arm has."""
    value = _value(override)
    if not isinstance(value, list):
        return override
    for index, item in enumerate(value):
        for name in item if isinstance(item, dict) else ():
            if name not in ARM_KEYS:
                raise unknown_arm_key(f"arms[{index}]", str(name))
    if not any(isinstance(item, str) for item in value):
        return override
    return f"{key}={in_grammar([{'mode': item} if isinstance(item, str) else item for item in value])}"


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
