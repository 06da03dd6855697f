"""Hooks on a model and on what it wraps, which write down every outermost pass and never wait for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from transformers import PreTrainedModel

from kvbench.models.signature import transformers_model
from kvbench.watching.between_passes import READS, listening
from kvbench.watching.pass_writer import PassWriter
from kvbench.watching.seen_pass import GenerateCall


def chain_of(model: Any) -> tuple[Any, ...]:
    """The modules that a script may call of one model: itself, what torch.compile and PEFT wrap."""
    chain = [model]
    while isinstance(inner := getattr(chain[-1], "_orig_mod", None), torch.nn.Module):
        chain.append(inner)
    inside = transformers_model(chain[-1])
    if inside is not chain[-1]:
        chain.append(inside)
    return tuple(chain)


@contextmanager
def hooked(chain: tuple[Any, ...], hooks: PassWriter) -> Iterator[None]:
    """The chain's modules tell `hooks` of their calls; taken out again whatever happens."""
    with ExitStack() as undo:
        for index, module in enumerate(chain):
            if isinstance(module, torch.nn.Module):
                undo.enter_context(_module_hooked(index, module, hooks))
            else:
                undo.enter_context(_class_hooked(index, module, hooks))
        for index, module in enumerate(chain):
            if isinstance(module, PreTrainedModel):
                undo.enter_context(_generate_told(index, module, hooks))
        undo.callback(hooks.close)
        undo.enter_context(listening(hooks, READS))
        yield


@contextmanager
def _module_hooked(index: int, module: torch.nn.Module, hooks: PassWriter) -> Iterator[None]:
    # A compiled pass has its hooks compiled into it, where they must do nothing: it is told from outside.
    def before(_module: Any, args: Any, kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            hooks.begin(index, args, kwargs)

    def after(_module: Any, _args: Any, *rest: Any) -> None:
        if not torch.compiler.is_compiling():
            hooks.end(index, rest[-1])

    first = module.register_forward_pre_hook(before, with_kwargs=True)
    last = module.register_forward_hook(after, with_kwargs=True, always_call=True)
    compiled = getattr(module, "_compiled_call_impl", None)
    if compiled is not None:  # module.compile()
        module._compiled_call_impl = _told(index, compiled, hooks)
    try:
        yield
    finally:
        first.remove()
        last.remove()
        if compiled is not None:
            module._compiled_call_impl = compiled


@contextmanager
def _class_hooked(index: int, model: Any, hooks: PassWriter) -> Iterator[None]:
    """A model of one's own that is no module: Python looks `__call__` up in the class."""
    owner = type(model)
    own, original = vars(owner).get("__call__"), owner.__call__
    told = _told(index, original, hooks, of=model)
    owner.__call__ = told
    try:
        yield
    finally:
        if own is None:
            del owner.__call__
        else:
            owner.__call__ = own


def _told(index: int, original: Any, hooks: PassWriter, of: Any = None) -> Callable[..., Any]:
    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if of is not None and args[0] is not of:
            return original(*args, **kwargs)
        hooks.begin(index, args if of is None else args[1:], kwargs)
        output = None
        try:
            output = original(*args, **kwargs)
        finally:
            hooks.end(index, output)
        return output

    return call


@contextmanager
def _generate_told(index: int, module: PreTrainedModel, hooks: PassWriter) -> Iterator[None]:
    names = ("generate", "get_compiled_call")
    before = {name: module.__dict__[name] for name in names if name in module.__dict__}
    generate, compiled_call = getattr(module, "generate", None), getattr(module, "get_compiled_call", None)
    if generate is not None:

        @wraps(generate)
        def told_generate(*args: Any, **kwargs: Any) -> Any:
            ended = hooks.calling(_generate_call(module, args, kwargs))
            try:
                return generate(*args, **kwargs)
            finally:
                ended()

        module.__dict__["generate"] = told_generate
    if compiled_call is not None:  # what generate runs with a static cache on a GPU

        @wraps(compiled_call)
        def told_compiled(*args: Any, **kwargs: Any) -> Any:
            call = compiled_call(*args, **kwargs)
            return call if call == module.__call__ else _told(index, call, hooks)

        module.__dict__["get_compiled_call"] = told_compiled
    try:
        yield
    finally:
        for name in names:
            module.__dict__.pop(name, None)
        module.__dict__.update(before)


def _generate_call(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GenerateCall:
    given = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None)

    def setting(name: str) -> Any:
        if kwargs.get(name) is not None:
            return kwargs[name]
        told = getattr(given, name, None)
        return getattr(getattr(module, "generation_config", None), name, None) if told is None else told

    return GenerateCall(
        0,
        beams=setting("num_beams") or 1,
        assisted=kwargs.get("assistant_model") is not None or setting("prompt_lookup_num_tokens") is not None,
        use_cache=setting("use_cache"),
    )
