"""The watch of a whole script, which begins by itself when the first language model is called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from transformers import GenerationMixin

from kvbench.watching.call_arguments import Arguments
from kvbench.watching.hooks import chain_of
from kvbench.watching.watcher import watch


class FirstModel:
    """Watches one model of a script: the one that `target` names, or the first that looks like a language model.

    That is what `generate` is first called of, or the outermost module that is called with token ids and has an output
    as wide as one of its embedding tables is long. `target` is MODULE:NAME of an object, or of a class whose first
    instance is meant.
    """

    def __init__(self, target: str | None = None) -> None:
        self._target = target
        self._undo = ExitStack()
        self._refused: set[int] = set()
        self.seen: watch | None = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look for the model, and watch it until the end of the context."""
        with ExitStack() as watching:
            self._watching = watching
            with self._undo:
                self._replace(torch.nn.Module, "__call__", self._called)
                self._replace(GenerationMixin, "generate", self._called)
                yield

    def _replace(self, owner: Any, name: str, told: Any) -> None:
        original = vars(owner)[name]

        @wraps(original)
        def call(model: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not told(model, args, kwargs, name == "generate"):
                return original(model, *args, **kwargs)
            return getattr(model, name)(*args, **kwargs)  # hooked by now

        setattr(owner, name, call)
        self._undo.callback(setattr, owner, name, original)

    def _called(self, model: Any, args: Any, kwargs: Any, generates: bool) -> bool:
        """Whether this call is of the model that is looked for, which is watched from here on."""
        if self.seen is not None:
            return False
        if self._target is not None:
            if not self._is_target(model):
                return False
        elif not generates and not self._looks_right(model, args, kwargs):
            return False
        self.seen = watch(model)
        self._undo.close()
        self._watching.enter_context(self.seen)
        return True

    def _is_target(self, model: Any) -> bool:
        module, _, path = str(self._target).partition(":")
        found: Any = sys.modules.get(module)
        for part in path.split("."):
            found = getattr(found, part, None)
        return found is not None and (found is model or (isinstance(found, type) and isinstance(model, found)))

    def _looks_right(self, model: Any, args: Any, kwargs: Any) -> bool:
        if id(model) in self._refused:  # modules are called thousands of times before, such as those of a text encoder
            return False
        inside = chain_of(model)[-1]
        if isinstance(inside, GenerationMixin):
            return True
        if not _has_vocabulary(model) or Arguments(model).read(args, kwargs) is None:
            self._refused.add(id(model))
            return False
        return True


def _has_vocabulary(model: torch.nn.Module) -> bool:
    """Whether it has a table of embeddings and a layer as wide as the table is long."""
    tables = {each.num_embeddings for each in model.modules() if isinstance(each, torch.nn.Embedding)}
    return any(isinstance(each, torch.nn.Linear) and each.out_features in tables for each in model.modules())
