"""The versions of torch and transformers that kvbench is tested with, and what to say about others. Imports neither."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

# The oldest are the lower bounds in pyproject.toml. The newest transformers is the one in constraints.txt.
OLDEST = {"torch": "2.11", "transformers": "5.17"}
NEWEST_TRANSFORMERS = "5.24.0"


def too_old() -> str | None:
    """One line about an installed torch or transformers that is older than any that works; None where there is none."""
    for package, oldest in OLDEST.items():
        installed = installed_version(package)
        if installed is not None and release(installed) < release(oldest):
            return (
                f"{package} {installed} is installed, and kvbench needs {oldest} or newer:"
                f" pip install -U '{package}>={oldest}'"
            )
    return None


def untested(installed: str | None = None) -> str | None:
    """A clause about a transformers newer than the newest tested one; None where it was tested.

    Parameters: `installed` is its version, by default that of this environment.
    """
    found = installed or installed_version("transformers")
    if found is None or release(found) <= release(NEWEST_TRANSFORMERS):
        return None
    return (
        f"transformers {found} is newer than {NEWEST_TRANSFORMERS}, the newest that kvbench was tested with;"
        f" pip install transformers=={NEWEST_TRANSFORMERS} if this goes wrong"
    )


def installed_version(package: str) -> str | None:
    """The version of an installed package by its metadata, without importing it; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def release(text: str) -> tuple[int, ...]:
    """The numbers a version begins with, such as (5, 24, 0) for 5.24.0.dev0; of length three, padded with zeros."""
    numbers = re.match(r"\d+(\.\d+)*", text)
    found = tuple(map(int, numbers[0].split("."))) if numbers else ()
    return (*found, 0, 0, 0)[:3]
