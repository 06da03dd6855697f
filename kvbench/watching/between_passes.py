"""Sees what a script does between its passes: values read to the host, types and devices changed, text decoded.

Methods of `torch.Tensor` and of transformers' tokenizers are replaced while anything listens, and put back afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

# What hands a value to Python and, on a GPU, waits for it.
READS = ("cpu", "item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__array__")
MOVES = ("to", "cuda", "half", "float", "bfloat16", "double")
LIBRARIES = frozenset(("accelerate", "kvbench", "numpy", "peft", "tokenizers", "torch", "transformers"))


class Listener(Protocol):
    """What is told of every such call."""

    calls: int  # counted up at every call of a replaced method, seen or not: what listening costs is told from it

    def read(self, method: str, tensor: torch.Tensor, site: tuple[str, int] | None) -> None:
        """A value was read; `site` is the file and line, None inside a library."""

    def moved(self, method: str, before: torch.Tensor, after: torch.Tensor, site: tuple[str, int] | None) -> None:
        """A tensor was made of another type or on another device."""

    def decoded(self, tokens: int) -> None:
        """A tokenizer made text of so many tokens."""

    def encoded(self) -> None:
        """A tokenizer made tokens of a text."""


_listeners: dict[tuple[str, ...], tuple[Listener, ...]] = {READS: (), MOVES: ()}
_replaced: dict[tuple[str, ...], list[tuple[type, str, Any]]] = {READS: [], MOVES: []}


@contextmanager
def listening(listener: Listener, methods: tuple[str, ...]) -> Iterator[None]:
    """Tell a listener of all calls within the context, of `READS` (and of text), or of `MOVES`.

    Models call the methods of `MOVES` in every layer, so whoever listens to them does so between passes only.
    """
    if not _listeners[methods]:
        _replace(methods)
    _listeners[methods] = (*_listeners[methods], listener)
    try:
        yield
    finally:
        _listeners[methods] = tuple(each for each in _listeners[methods] if each is not listener)
        if not _listeners[methods]:
            _put_back(_replaced[methods])


def _replace(methods: tuple[str, ...]) -> None:
    for name in methods:
        original = getattr(torch.Tensor, name)
        _put(methods, torch.Tensor, name, _reading(name, original) if methods is READS else _moving(name, original))
    tokenizers = sys.modules.get("transformers.tokenization_utils_base")
    if methods is READS and tokenizers is not None:
        base = tokenizers.PreTrainedTokenizerBase
        _put(methods, base, "decode", _decoding(base.decode))
        _put(methods, base, "__call__", _encoding(base.__call__))


def _put(methods: tuple[str, ...], owner: type, name: str, function: Any) -> None:
    """`_replaced` keeps what the class itself had: None for an inherited method."""
    _replaced[methods].append((owner, name, vars(owner).get(name)))
    setattr(owner, name, function)


def _put_back(replaced: list[tuple[type, str, Any]]) -> None:
    while replaced:
        owner, name, own = replaced.pop()
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _caller() -> tuple[str, int] | None:
    """File and line of whoever called the replaced method; None for code of a library."""
    frame = sys._getframe(2)
    if str(frame.f_globals.get("__name__", "")).partition(".")[0] in LIBRARIES:
        return None
    return frame.f_code.co_filename, frame.f_lineno


def _reading(name: str, original: Any) -> Callable[..., Any]:
    def read(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            site = _caller()
            for listener in _listeners[READS]:
                listener.calls += 1
                listener.read(name, self, site)
        return original(self, *args, **kwargs)

    return _named(read, name)


def _moving(name: str, original: Any) -> Callable[..., Any]:
    def move(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        moved = original(self, *args, **kwargs)
        for listener in () if torch.compiler.is_compiling() else _listeners[MOVES]:
            listener.calls += 1
            if moved.dtype != self.dtype or moved.device != self.device:
                listener.moved(name, self, moved, _caller())
        return moved

    return _named(move, name)


def _decoding(original: Any) -> Callable[..., Any]:
    def decode(self: Any, token_ids: Any, *args: Any, **kwargs: Any) -> Any:
        for listener in _listeners[READS]:
            listener.calls += 1
            listener.decoded(_tokens_of(token_ids))
        return original(self, token_ids, *args, **kwargs)

    return _named(decode, "decode")


def _encoding(original: Any) -> Callable[..., Any]:
    def encode(self: Any, *args: Any, **kwargs: Any) -> Any:
        for listener in _listeners[READS]:
            listener.calls += 1
            listener.encoded()
        return original(self, *args, **kwargs)

    return _named(encode, "__call__")


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = name
    return function


def _tokens_of(token_ids: Any) -> int:
    if isinstance(token_ids, torch.Tensor):
        return token_ids.numel()
    if isinstance(token_ids, (list, tuple)):
        return sum(map(_tokens_of, token_ids))
    return int(getattr(token_ids, "size", 1))
