"""Whether `model.target` names something, as far as can be told without running the user's code."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.machinery import ModuleSpec
from pathlib import Path

from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable

# With one of these a module may have names that its text does not bind.
DYNAMIC = {"__getattr__", "globals", "setattr", "exec", "eval", "vars", "modules", "__dict__"}


def require_target(model: ModelConfig) -> None:
    """Raise `ModelUnavailable` when there is no such module, or its file certainly binds no such name."""
    if model.weights != "python" or model.target is None:
        return
    module, _, attribute = model.target.partition(":")
    top, name = module.partition(".")[0], attribute.partition(".")[0]
    if top in sys.modules:
        return
    here = str(Path.cwd())
    spec = _found(top, here)
    if spec is None:
        raise ModelUnavailable(
            f"model.target={model.target}: there is no module {top} in {here} or on Python's path (PYTHONPATH)"
        )
    bound = _bound_names(Path(spec.origin)) if module == top and spec.origin and spec.has_location else None
    if bound is not None and name not in bound:
        near = get_close_matches(name, sorted(bound), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ModelUnavailable(f"model.target={model.target}: {module} has no {name}{hint}")


def _found(top: str, here: str) -> ModuleSpec | None:
    """The spec of a top-level module, which is not imported; searched in this folder first, as the worker does."""
    sys.path.insert(0, here)
    try:
        return importlib.util.find_spec(top)
    finally:
        sys.path.remove(here)


def _bound_names(file: Path) -> set[str] | None:
    """Every name that a module's text may bind; None where others may come to be."""
    if file.suffix != ".py" or file.name == "__init__.py":  # a package also has its modules
        return None
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return None
    names = {name for node in nodes for name in _names(node)}
    return None if DYNAMIC & names or "*" in names else names


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name.partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case _:
            return
