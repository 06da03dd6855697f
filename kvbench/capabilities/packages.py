"""Packages that a choice needs beyond those that kvbench installs. Looking for one does not import it."""

from __future__ import annotations

import importlib.util

from kvbench.capabilities.attentions import PACKAGES
from kvbench.capabilities.caches import CACHES
from kvbench.capabilities.weights import QUANTIZATIONS


def is_installed(module: str) -> bool:
    """Whether a module could be imported here."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def missing_attention(name: str) -> str | None:
    """Why an attention of another package is not there, or None when it is."""
    package, module = PACKAGES.get(name, (None, None))
    return _missing(f"attention={name}", package, module, "install it, or use another")


def missing_cache(name: str) -> str | None:
    """Why a quantised cache of another package is not there, or None when it is."""
    kind = CACHES[name]
    return _missing(f"cache={name}", kind.package, kind.package, f"pip install 'kvbench[{kind.backend}]'")


def missing_quantization(name: str) -> str | None:
    """Why weights in fewer bits cannot be made here, or None when they can."""
    package = QUANTIZATIONS[name].package
    return _missing(f"model.quantization={name}", package, package, f"pip install 'kvbench[{package}]'")


def _missing(choice: str, package: str | None, module: str | None, remedy: str) -> str | None:
    if module is None or is_installed(module):
        return None
    return f"{choice} needs the package {package}, which is not installed: {remedy}"
