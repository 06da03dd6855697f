"""What can be told of a model before it is loaded: its folder, its context, the module that `model.target` names."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from kvbench.config.schema import ModelConfig
from kvbench.errors import ConfigError, ModelUnavailable, PromptError
from kvbench.model_folder import (
    EMBEDDED,
    cache_location,
    cached_folder,
    instead_of_download,
    is_complete,
    is_offline,
    require_complete,
)
from kvbench.plan import Plan

# Names that transformers takes for the context of every architecture that states them: others may be something else.
STATED = ("max_position_embeddings", "n_positions")
LARGEST_TOKENIZER_BYTES = 8_000_000  # more takes longer to read than a person waits for a refusal
# transformers may build a tokenizer that differs from its file in details: only far more tokens than fit are refused.
MARGIN = 1.1
READ_CHARACTERS = 8  # of a text for each token of the context: enough to tell, however long it is
# With one of these a module may have names that its text does not bind.
DYNAMIC = {"__getattr__", "globals", "setattr", "exec", "eval", "vars", "modules", "__dict__"}


def found_folder(model: ModelConfig) -> Path | None:
    """The folder that the model will be read from, where that is certain by now.

    Raises `ModelUnavailable` when it does not exist or is no transformers folder, and when the hub must not be asked
    and the cache lacks the model.
    """
    match model.weights:
        case "embedded":
            return EMBEDDED
        case "path":
            folder = Path(str(model.path)).expanduser()
            require_complete(folder, str(model.path))
            return folder
        case "random" if model.path is not None and not model.architecture:
            folder = Path(model.path).expanduser()
            if not folder.is_dir():
                raise ModelUnavailable(f"model.path={model.path}: no such folder")
            if not (folder / "config.json").is_file():
                raise ModelUnavailable(f"{model.path} has no config.json: it is not a transformers folder")
            return folder
        case "hub":
            return _offline_folder(model, with_weights=True)
        case "random" if model.id is not None and not model.architecture:
            return _offline_folder(model, with_weights=False)
        case _:
            return None


def _offline_folder(model: ModelConfig, *, with_weights: bool) -> Path | None:
    """The cached snapshot where only the cache may be used; None where the hub has the say."""
    if not is_offline():
        return None
    try:
        folder = cached_folder(str(model.id), model.revision)
    except ValueError:  # no id of a repository: the hub client has the sentence
        return None
    if folder is not None and (not with_weights or is_complete(folder)):
        return folder
    missing = "the config.json of " if not with_weights else "" if folder is None else "part of the weights of "
    of_revision = f" at revision {model.revision}" if model.revision else ""
    raise ModelUnavailable(
        f"HF_HUB_OFFLINE is set, and {missing}{model.id}{of_revision} is not in the local cache ({cache_location()}):"
        f" unset it to download, set HF_HOME to where the model is, or {instead_of_download(model)}"
    )


def require_lengths(plan: Plan, folder: Path) -> None:
    """Raise `PromptError` or `ConfigError` when a prompt, alone or with its new tokens, is longer than the context."""
    limit = stated_context(folder)
    if limit is None or plan.config.frontier.axes is not None:
        return
    name, new_tokens = plan.model_name, plan.config.workload.new_tokens
    if plan.prompts.lengths:
        longest = max(plan.prompts.lengths)
        if longest >= limit:
            key = "scaling.lengths" if plan.config.scaling.lengths is not None else "workload.prompt_tokens"
            raise PromptError(f"{key}={longest}: {name} reads at most {limit} tokens: lower it")
        if longest + new_tokens > limit:
            raise ConfigError(
                f"workload.new_tokens={new_tokens}: with a prompt of {longest} tokens {name} has room for"
                f" {limit - longest} (context {limit})"
            )
        return
    text = max(plan.prompts.texts, key=len)
    if len(text.encode()) <= limit:
        return  # no token is less than a byte
    beginning = text[: limit * READ_CHARACTERS]
    tokens = _tokens(folder, beginning)
    if tokens is not None and tokens > limit * MARGIN:
        more = "about" if beginning == text else "more than"
        raise PromptError(
            f"prompt {plan.prompts.texts.index(text) + 1} has {more} {tokens} tokens, {name} reads at most {limit}:"
            " shorten it, or lower workload.prompt_tokens"
        )


@lru_cache(maxsize=64)
def stated_context(folder: Path) -> int | None:
    """Tokens that a model reads at most, as its config.json states beyond doubt; else None."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or "auto_map" in config:
        return None  # code of its own may count otherwise
    text = config.get("text_config", config)
    if not isinstance(text, dict) or any(config.get(section) is not None for section in ("decoder", "generator")):
        return None
    found = {value for name in STATED if type(value := text.get(name)) is int}
    return found.pop() if len(found) == 1 else None


@lru_cache(maxsize=64)
def _tokens(folder: Path, text: str) -> int | None:
    """Tokens of a text by the folder's tokenizer.json, without special ones; None where it is large or unreadable."""
    file = folder / "tokenizer.json"
    if not file.is_file() or file.stat().st_size > LARGEST_TOKENIZER_BYTES:
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return len(tokenizer.encode(text, add_special_tokens=False).ids)
    except Exception:  # its own type, for whatever the file may hold: the worker has the sentence
        return None


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
