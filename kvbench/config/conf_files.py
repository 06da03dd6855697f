"""Configuration files: the groups that come with kvbench, and a configuration as YAML that composes to an equal one."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

PACKAGED = Path(__file__).parents[1] / "conf"  # where a wheel puts it
SOURCE = Path(__file__).parents[2] / "conf"  # where a checkout has it

LOOSE_FLOAT = re.compile(r"[-+]?(\d[\d_]*)?(\.[\d_]*)?([eE][-+]?\d+)?$|[-+]?\.?(inf|nan)$", re.IGNORECASE)
INTERPOLATION = re.compile(r"(\\*)\$\{")


def conf_folder() -> Path:
    """The folder of the configuration groups that come with kvbench, beside it in a checkout."""
    return PACKAGED if PACKAGED.is_dir() else SOURCE


def groups() -> list[str]:
    """The names of the groups."""
    return sorted(folder.name for folder in conf_folder().iterdir() if folder.is_dir())


def ready_files(group: str) -> list[str]:
    """The choices of a group that come with kvbench."""
    return sorted(file.stem for file in (conf_folder() / group).glob("*.yaml"))


def yaml_text(config: dict[str, Any], *, ascii_only: bool = False) -> str:
    """Plain data as the text of a config.yaml; `ascii_only` writes every other character as its escape."""
    import yaml

    return yaml.dump(escaped(config), Dumper=_dumper(), sort_keys=False, allow_unicode=not ascii_only)


@cache
def _dumper() -> Any:
    """Quotes what OmegaConf would read as a number and YAML 1.1 would not, such as 1e3."""
    import yaml  # here, since the help page names ready files without it

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        pass

    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", LOOSE_FLOAT, list("-+0123456789."))
    return Dumper


def escaped(value: Any) -> Any:
    """The same with every ${ written such that it is read as text."""
    if isinstance(value, str):
        return INTERPOLATION.sub(lambda found: found[1] * 2 + "\\${", value)
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, (list, tuple)) else value
