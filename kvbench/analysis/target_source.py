"""The source behind `model.target`, found without importing it: an edited model is another model."""

from __future__ import annotations

import hashlib
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path


def source_digest(target: str) -> str:
    """A digest of the Python files that a target is likely to be made of.

    For a module of a package, all of its top-level package; for one by itself, the files beside it, among which
    are those that it imports. Of a module without a source file no two digests are equal: its change would go unseen.
    """
    module = target.partition(":")[0].split(".")
    found = next((source for root in _roots() if (source := _source(root, module)) is not None), None)
    if found is None:
        return secrets.token_hex(16)
    folder, files = found
    content = hashlib.sha256()
    for path in sorted(files):
        content.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def _roots() -> list[Path]:
    """Where the worker will look: the current folder first, then Python's own path."""
    return [Path.cwd(), *map(Path, filter(None, sys.path))]


def _source(root: Path, module: list[str]) -> tuple[Path, Iterable[Path]] | None:
    """The folder that the module is found in and the files to read; None when it is not in `root`."""
    place = root.joinpath(*module)
    if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
        return None
    package = root / module[0]
    return root, package.rglob("*.py") if package.is_dir() else root.glob("*.py")
