"""A model of the user's own (`kvbench.own_model`): found, built, tried once, and in the shape that loops know."""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from inspect import getattr_static
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch

from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable
from kvbench.model_facts import ModelFacts
from kvbench.models.checkpoint import DTYPES
from kvbench.models.devices import require_dtype
from kvbench.models.loading import LoadedModel, quietly
from kvbench.models.sizing import weight_size
from kvbench.models.tokenizers import FoldedBytes, own_text
from kvbench.records.evidence import RunWarning

OWN_ATTENTION = "own"  # in the place where transformers names its implementation


class OwnTensors(SimpleNamespace):
    """The tensors of an own cache by where they were found in it; what their dimensions mean is not known."""


class OwnPast:
    """A cache of a model's own kind, with the tokens that it was handed counted beside it.

    A model of the user's own offers one that is empty. A transformers model that makes its state itself leaves `cache`
    at None until its first pass.
    """

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self._handed = 0

    def hand(self, tokens: int) -> None:
        """Note that a pass was given so many tokens more."""
        self._handed += tokens

    def get_seq_length(self) -> int:
        """Tokens handed in so far: what the loop goes by, whatever the cache says of itself."""
        return self._handed

    def stated_length(self) -> int | None:
        """What the cache itself says, by `get_seq_length()`, `length` or `len()`; None when it says nothing."""
        told = getattr(self.cache, "get_seq_length", None)
        if callable(told):
            return int(told())
        length = len(self.cache) if self.tells_by_len else getattr(self.cache, "length", None)
        return None if length is None or callable(length) else int(length)

    @property
    def tells_by_len(self) -> bool:
        """Whether `len()` is all that it says: of tokens, or of layers, as that of a list or a dict of tensors."""
        said = any(getattr_static(self.cache, name, None) is not None for name in ("get_seq_length", "length"))
        return not said and hasattr(self.cache, "__len__") and not isinstance(self.cache, (list, tuple, dict))

    @property
    def layers(self) -> list[OwnTensors]:
        """Every tensor of the cache, as one layer."""
        offered = getattr(self.cache, "tensors", None)
        found: Iterable[Any] = (
            ((str(number), tensor) for number, tensor in enumerate(offered()))
            if callable(offered)
            else _found(self.cache, "", set())
        )
        return [OwnTensors(**dict(found))]


def _found(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors in attributes, lists, tuples and mappings with their paths; a model that is referred to is left out."""
    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if id(value) in seen or isinstance(value, (torch.nn.Module, str, bytes, type)):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        inside: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        inside = enumerate(value)
    else:
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        named = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        inside = (named | getattr(value, "__dict__", {})).items()
    for name, item in inside:
        yield from _found(item, f"{path}.{name}" if path else str(name), seen)


@dataclass(frozen=True)
class OwnOutput:
    """What a pass returns: logits (batch, positions, vocabulary), and the past that was handed in."""

    logits: torch.Tensor
    cache: OwnPast | None


class OwnCausalLM(torch.nn.Module):
    """An own model behind the signature of a transformers causal language model. Made by `adapted`."""

    def __init__(self, own: Any, where: str) -> None:
        super().__init__()
        self.own = own
        self.where = where  # what messages call the model, such as "model.target=nano:Nano"
        self.config = SimpleNamespace(_attn_implementation=OWN_ATTENTION)
        self.generation_config = SimpleNamespace(eos_token_id=None)
        self.dtype = torch.float32  # the type whose rounding shows in the logits

    def forward(
        self,
        input_ids: torch.Tensor,
        cache: OwnPast | None = None,
        use_cache: bool = False,  # noqa: ARG002 - transformers' argument; here a past says it
    ) -> OwnOutput:
        """One pass over `input_ids` (batch, submitted)."""
        if cache is None:
            return OwnOutput(self.own(input_ids), None)
        logits = self.own(input_ids, cache.cache)
        cache.hand(input_ids.shape[1])
        return OwnOutput(logits, cache)

    @property
    def has_cache(self) -> bool:
        """Whether the model offers caches."""
        return callable(getattr(self.own, "new_cache", None))

    def new_cache(self, rows: int) -> OwnPast:
        """An empty past for so many sequences."""
        return OwnPast(self.own.new_cache(rows))

    def set_attn_implementation(self, name: str) -> None:
        """Refused: how an own model attends is its own affair."""
        raise ModelUnavailable(f"{self.where} chooses its attention itself, it cannot be set to {name}")


# The object behind `model.target`: found, built, put on the device, tried once, and what is known about it.


T = TypeVar("T")
TRIED_ROWS, TRIED_TOKENS = 2, 3  # so that no two dimensions can be mistaken for each other
PROTOCOL = "see kvbench/own_model.py"
STRUCTURE = "the structure of a model of one's own is not looked into"


def load_own(spec: ModelConfig, name: str, device: torch.device) -> LoadedModel:
    """Build what `spec.target` names, on `device`. A first call of each kind comes before the first visit.

    Raises `ModelUnavailable`, one line that begins with the target, for anything that stands in the way.
    """
    started = time.perf_counter()
    require_dtype(spec.dtype, device)
    where = f"model.target={spec.target}"
    with quietly():
        factory = _factory(where, str(spec.target))
        own = _attempt(where, "the factory", lambda: factory(**spec.options))
        _place(own, where, spec.dtype, device)
    return adopt_own(own, name, where, device, started)


def adopt_own(own: Any, name: str, where: str, device: torch.device, started: float | None = None) -> LoadedModel:
    """An own model that is on its device already; loading began at `started` on `time.perf_counter`, if it did."""
    model, width = adapted(own, where, device)
    vocab_size = _whole(own, "vocab_size", where) or width
    text = own_text(own, vocab_size, where)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the weights have arrived, not only been sent
    return LoadedModel(
        model,
        text,
        _facts(model, name, vocab_size, _whole(own, "max_context", where)),
        0.0 if started is None else time.perf_counter() - started,
        remarks=(RunWarning(code="stand_in_text", detail=text.remark),) if isinstance(text, FoldedBytes) else (),
    )


def adapted(own: Any, where: str, device: torch.device) -> tuple[OwnCausalLM, int]:
    """The model behind transformers' signature, and the width of its logits, after a first call of each kind."""
    if not callable(own):
        raise ModelUnavailable(
            f"{where}: gave an object of type {type(own).__name__}, which cannot be called as model(ids); {PROTOCOL}"
        )
    model = OwnCausalLM(own, where)
    ids = torch.zeros((TRIED_ROWS, TRIED_TOKENS), dtype=torch.long, device=device)
    with torch.inference_mode():
        logits = _tried(where, "model(ids)", ids, lambda: own(ids))
        if model.has_cache:
            cache = _attempt(where, f"model.new_cache({TRIED_ROWS})", lambda: own.new_cache(TRIED_ROWS))
            newest = ids[:, :1]
            _tried(where, "model(ids, cache)", ids, lambda: own(ids, cache))
            _tried(where, "model(ids, cache) on a cache of 3 tokens", newest, lambda: own(newest, cache))
    model.dtype = _commonest_dtype(model) or logits.dtype
    return model, logits.shape[-1]


def _factory(where: str, target: str) -> Callable[..., Any]:
    module_name, _, attribute = target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does, wherever kvbench was started from
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _raised(where, f"importing {module_name}", error) from error
        raise ModelUnavailable(
            f"{where}: there is no module {error.name} in {here} or on Python's path (PYTHONPATH)"
        ) from error
    except (Exception, SystemExit) as error:
        raise _raised(where, f"importing {module_name}", error) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, [name for name in dir(found) if not name.startswith("_")], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ModelUnavailable(f"{where}: {getattr(found, '__name__', module_name)} has no {part}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise ModelUnavailable(f"{where}: is of type {type(found).__name__}; name a class or a function")
    factory: Callable[..., Any] = found
    return factory


def _place(own: Any, where: str, dtype: str, device: torch.device) -> None:
    """Move, cast and freeze a module. Raises `ModelUnavailable` for a dtype that something else shall have."""
    if isinstance(own, torch.nn.Module):
        _attempt(where, f"moving it to {device}", lambda: own.to(device=device, dtype=DTYPES.get(dtype)))
        own.requires_grad_(False).eval()
    elif dtype != "auto":
        raise ModelUnavailable(
            f"model.dtype={dtype}: {where} gave an object of type {type(own).__name__}, and only an nn.Module can be"
            " cast; leave it out, or cast in the factory"
        )


def _tried(where: str, doing: str, ids: torch.Tensor, call: Callable[[], Any]) -> torch.Tensor:
    """Logits of a first call, of a shape that fits `ids`."""
    logits = _attempt(where, f"{doing} with ids of shape {tuple(ids.shape)}", call)
    rows, tokens = ids.shape
    if not isinstance(logits, torch.Tensor):
        raise ModelUnavailable(
            f"{where}: {doing} returned a {type(logits).__name__}; return the logits alone, a tensor of shape (batch,"
            " seq, vocabulary)"
        )
    shape = tuple(logits.shape)
    if len(shape) != 3 or shape[0] != rows or shape[1] not in (1, tokens) or not logits.is_floating_point():
        raise ModelUnavailable(
            f"{where}: {doing} returned {_name(logits.dtype)} of shape {shape} for ids of shape {tuple(ids.shape)};"
            f" logits are ({rows}, {tokens}, vocabulary) or, of the last position alone, ({rows}, 1, vocabulary)"
        )
    return logits


def _attempt(where: str, doing: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except (MemoryError, torch.OutOfMemoryError):
        raise  # the device's limit, not the model's mistake
    except (Exception, SystemExit) as error:
        raise _raised(where, doing, error) from error


def _raised(where: str, doing: str, error: BaseException) -> ModelUnavailable:
    first = next(iter(str(error).strip().splitlines()), "no message")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return ModelUnavailable(f"{where}: {doing} raised {type(error).__name__}: {first}{place}")


def _is_theirs(file: str) -> bool:
    """Whether a line of a traceback is the user's own, not of Python, of a package or of kvbench."""
    here = str(Path(__file__).parents[1])
    return not file.startswith(("<", here, str(Path(importlib.__file__).parents[1]))) and "site-packages" not in file


def _whole(own: Any, name: str, where: str) -> int | None:
    value = getattr(own, name, None)
    if value is None or (type(value) is int and value > 0):
        return value
    raise ModelUnavailable(f"{where}: {name} is {value!r}; it must be a whole number above 0, or be left out")


def _commonest_dtype(model: torch.nn.Module) -> torch.dtype | None:
    """The floating type that most weights have."""
    numbers: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        if parameter.is_floating_point():
            numbers[parameter.dtype] += parameter.numel()
    return numbers.most_common(1)[0][0] if numbers else None


def _facts(model: OwnCausalLM, name: str, vocab_size: int, max_context: int | None) -> ModelFacts:
    size = weight_size(model)
    known: dict[str, Any] = {
        "name": name,
        "source": "python",
        "parameters": size.parameters or None,
        "weight_bytes": size.bytes or None,
        "dtype": _name(model.dtype),
        "vocab_size": vocab_size,
        "max_context": max_context,
        "layer_types": (),
    }
    unknown = (
        "id", "revision", "model_type", "layers", "hidden_size", "attention_heads", "kv_heads", "head_dim",
        "sliding_window", "tied_embeddings", "kv_bytes_per_token", "fixed_cache_bytes",
    )  # fmt: skip
    reasons = {
        **dict.fromkeys((*unknown, "weight_parts", "experts", "experts_per_token"), STRUCTURE),
        "id": "the model does not come from the hub",
        "revision": "no commit of the hub is behind these weights",
        "kv_bytes_per_token": "no formula for a cache of one's own; its tensors are counted",
        "fixed_cache_bytes": "no formula for a cache of one's own; its tensors are counted",
        "parameters": "the object is no nn.Module with parameters",
        "weight_bytes": "the object is no nn.Module with parameters",
        "max_context": "the model states no max_context",
    }
    facts = ModelFacts(**{**dict.fromkeys(unknown), **known})
    return replace(facts, null_reasons={field: why for field, why in reasons.items() if getattr(facts, field) is None})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
