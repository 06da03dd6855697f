"""How this copy of kvbench came onto the machine: its version, and the command that adds one of its extras.

An installed package has metadata, and `direct_url.json` in it says from where (PEP 610). Metadata of another copy, such
as one that is installed while this one is read from a checkout, is none of this one's.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

NAME = "kvbench"
PACKAGE = Path(__file__).parent
UNKNOWN_VERSION = "0+unknown"  # a source tree that nobody installed; the record has its commit
OF_AN_EXTRA = re.compile(r"^(?P<requirement>[^;]+);.*\bextra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


def own_version() -> str:
    """The version of this copy by its metadata; `0+unknown` where it has none."""
    found = own_distribution()
    return UNKNOWN_VERSION if found is None else found.version


def install_hint(extra: str) -> str:
    """The command that adds an optional part to this copy, such as `pip install -e '.[hqq]'` in a checkout."""
    found = own_distribution()
    if found is None:
        return f"pip install -e {_quoted(_place(PACKAGE.parent), extra)}"
    packages = " ".join(map(shlex.quote, requirements(found, extra)))
    if (Path(sys.prefix) / "pipx_metadata.json").exists():
        passing = Path(sys.prefix).parent.name == ".cache"  # `pipx run` made it, for once
        return f"pipx run --with {packages} …" if passing else f"pipx inject {NAME} {packages}"
    origin = _origin(found)
    url = urlsplit(str(origin.get("url", "")))
    if "vcs_info" in origin:
        vcs, commit = origin["vcs_info"].get("vcs", "git"), origin["vcs_info"].get("commit_id", "")
        # A password in the address is nobody's business.
        address = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))
        return f"pip install {shlex.quote(f'{NAME}[{extra}] @ {vcs}+{address}@{commit}')}"
    place = Path(unquote(url.path))
    if url.scheme == "file" and place.exists():
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return f"pip install {editable}{_quoted(_place(place), extra)}"
    if origin:  # from a file that has gone, or from a server that may want a password
        return f"pip install {packages}"
    return f"pip install '{NAME}[{extra}]'"  # from an index


@cache
def own_distribution() -> Distribution | None:
    """The metadata that belongs to this copy of the code, or None."""
    return next((each for each in distributions(name=NAME) if _is_ours(each)), None)


def requirements(found: Distribution, extra: str) -> list[str]:
    """What an extra asks for, such as `hqq>=0.2.8`."""
    asked = (OF_AN_EXTRA.match(each) for each in found.requires or ())
    return [each["requirement"].strip() for each in asked if each is not None and each["extra"] == extra]


def _is_ours(found: Distribution) -> bool:
    if Path(str(found.locate_file(NAME))).resolve() == PACKAGE.resolve():
        return True
    origin = _origin(found)
    place = Path(unquote(urlsplit(str(origin.get("url", ""))).path))
    return bool(origin.get("dir_info", {}).get("editable")) and place.resolve() == PACKAGE.parent.resolve()


def _origin(found: Distribution) -> dict[str, Any]:
    """The contents of direct_url.json; empty for a package from an index, or where it cannot be read."""
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) else {}


def _place(place: Path) -> str:
    """`.` for the folder that one is in, so that the command is short, and the path of any other."""
    return "." if place.resolve() == Path.cwd() else str(place)


def _quoted(place: str, extra: str) -> str:
    return shlex.quote(f"{place}[{extra}]")
