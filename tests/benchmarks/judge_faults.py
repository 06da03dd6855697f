"""Faults of caches, made on purpose, for `judge.py`: what goes wrong (`FAULTS`), and where it does (`PLACES`).

A fault acts while an arm with a cache decodes, in passes that hand a cache in, and nowhere else: recompute, which the
arm is held against, stays as it is. transformers' models are caught at their `forward` and at `Cache.update`, whose
classes are patched while `installed`; a model of one's own calls `noted`, `at_place`, `kept` and `shown` itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

NEW_TOKENS = 20  # of the runs with faults, and
LONG = 46  # of those whose place is late
WINDOW = 32  # tokens that the models with a window see
BUCKET = 16  # of recompute's passes, and
CHUNK = 8  # tokens of a piece of the prompt, in the workloads that have them
CACHE_NAMES = ("cache", "past_key_values", "cache_params")
Pair = tuple[torch.Tensor, torch.Tensor]


class Moment:
    """One pass with a cache: `past` tokens before it, of which `prompt` columns are the prompt's."""

    def __init__(self, injection: Injection, model: Any, past: int, submitted: int, rows: int) -> None:
        self.injection = injection
        self.memory = injection.memory
        self.model = model
        self.batch = injection.batch
        self.prompt = injection.prompt
        self.past = past
        self.submitted = submitted
        self.context = past + submitted
        self.step = max(self.context - self.prompt, 0)  # the new token that it is about; 0 is the prefill's
        self.rows = rows
        self.padding = torch.tensor([self.prompt - length for length in injection.lengths])
        self.layer = 0
        self.layers = injection.layers

    @property
    def is_step(self) -> bool:
        """Whether it comes after the prompt."""
        return self.past >= self.prompt

    def oldest(self, keys: torch.Tensor) -> torch.Tensor:
        """The index of each row's first real token in `keys`; where a window has dropped some, of what is left."""
        return (self.padding - (self.context - keys.shape[2])).clamp(min=0)


@dataclass(frozen=True)
class Place:
    """Where a fault acts: in which passes, and in which rows of them (None: all)."""

    name: str
    acts: Callable[[Moment], bool]
    rows: Callable[[Moment], torch.Tensor] | None = None
    workload: str = "plain"  # that has such a place


def _one_percent(moment: Moment) -> bool:
    """One of the run's 40 steps, and of the rows of one batch, the same in every run."""
    return (moment.batch, moment.step) == (1, 11)


PLACES = {
    place.name: place
    for place in (
        Place("everywhere", lambda moment: True),
        Place("first batch", lambda moment: moment.batch == 0),
        Place("later batch", lambda moment: moment.batch == 1),
        Place("padded rows", lambda moment: moment.batch == 1, lambda moment: moment.padding > 0),
        Place("step 1", lambda moment: moment.step == 1),
        Place("from step 17", lambda moment: moment.step >= 17),
        Place("from step 40", lambda moment: moment.step >= 40, workload="long"),
        Place("step 40", lambda moment: moment.step == 40, workload="long"),
        Place("multiples of 64", lambda moment: moment.context % 64 == 0),
        Place("last step", lambda moment: moment.step == NEW_TOKENS - 1),
        Place("1 % of the steps", _one_percent),
        Place("window's edge", lambda moment: moment.context == WINDOW + 1, workload="window"),
        Place("bucket's edge", lambda moment: moment.context % BUCKET == 0, workload="bucket"),
        Place("chunk's edge", lambda moment: 0 < moment.past < moment.prompt, workload="chunk"),
    )
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, by the hooks that it has; each gets its own copies, and what it returns is used.

    `on` are the models that it is tried on. `passes` says in which passes it acts: steps, the prefill, or all.
    """

    name: str
    on: tuple[str, ...]
    hook: str
    act: Callable[..., Any]
    passes: str = "steps"
    workload: str = "plain"

    def acts(self, moment: Moment) -> bool:
        """Whether it does in such a pass, wherever."""
        return self.passes == "all" or moment.is_step == (self.passes == "steps")


class Injection:
    """A fault at a place, while one arm decodes; `acted` counts how often it changed something."""

    def __init__(self, fault: Fault, place: Place, layers: int) -> None:
        self.fault, self.place, self.layers = fault, place, layers
        self.memory: dict[Any, Any] = {}
        self.acted = 0
        self.moment: Moment | None = None

    def begin(self, batch: int, lengths: Sequence[int], prompt: int) -> None:
        """A batch of prompts is decoded from its beginning."""
        self.batch, self.lengths, self.prompt, self.past = batch, lengths, prompt, 0

    def enter(self, model: Any, rows: int, submitted: int) -> None:
        """A pass begins."""
        self.moment = Moment(self, model, self.past, submitted, rows)
        self.past += submitted

    def acts(self, hook: str) -> bool:
        """Whether the fault has this hook, and acts in the present pass."""
        moment = self.moment
        if self.fault.hook != hook or moment is None:
            return False
        if self.place.name == "chunk's edge":  # a fault of steps, in the pieces behind the first
            return self.place.acts(moment)
        return self.fault.acts(moment) and self.place.acts(moment)

    def only_rows(self, faulty: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
        """The faulty tensor in the rows of the place, the sound one in the others."""
        assert self.moment is not None
        if self.place.rows is not None and faulty.shape == sound.shape and len(faulty) == len(self.moment.padding):
            rows = self.place.rows(self.moment).view(-1, *[1] * (faulty.ndim - 1))
            faulty = torch.where(rows, faulty, sound)
        self.acted += int(faulty.shape != sound.shape or not torch.equal(faulty, sound))
        return faulty


_CURRENT: list[Injection | None] = [None]


@contextmanager
def injected(injection: Injection | None) -> Iterator[None]:
    """A context in which an arm with a cache decodes with a fault, or with none."""
    before, _CURRENT[0] = _CURRENT[0], injection
    try:
        yield
    finally:
        _CURRENT[0] = before


# What models call: their own do so themselves, transformers' through the patches below.


def kept(keys: torch.Tensor, values: torch.Tensor, layer: int) -> Pair:
    """New keys and values as the cache keeps them."""
    return _changed("kept", keys, values, layer)


def shown(keys: torch.Tensor, values: torch.Tensor, layer: int) -> Pair:
    """All keys and values as the attention sees them."""
    return _changed("shown", keys, values, layer)


def at_place(places: torch.Tensor) -> torch.Tensor:
    """Positions (batch, seq) as a model of one's own has counted them."""
    injection = _CURRENT[0]
    if injection is None or not injection.acts("inputs"):
        return places
    arguments = {"position_ids": places.clone()}
    injection.fault.act(arguments, injection.moment)
    return injection.only_rows(arguments["position_ids"], places)


@contextmanager
def noted(model: Any, submitted: int, rows: int = 0) -> Iterator[None]:
    """A context of one pass with a cache, with what a fault changes of the model itself."""
    injection = _CURRENT[0]
    if injection is None:
        yield
        return
    injection.enter(model, rows, submitted)
    with _changed_model(injection, model) if injection.acts("model") else nullcontext():
        yield
    injection.moment = None


def out(logits: torch.Tensor) -> torch.Tensor:
    """Logits as they leave the model."""
    injection = _CURRENT[0]
    if injection is None or not injection.acts("logits"):
        return logits
    return injection.only_rows(injection.fault.act(logits.clone(), injection.moment), logits)


def _changed(hook: str, keys: torch.Tensor, values: torch.Tensor, layer: int) -> Pair:
    injection = _CURRENT[0]
    if injection is None or injection.moment is None:
        return keys, values
    injection.moment.layer = layer
    if hook == "shown" and injection.fault.hook == "shown":
        injection.memory["seen", layer] = keys.clone(), values.clone()
    if not injection.acts(hook):
        return keys, values
    faulty = injection.fault.act(keys.clone(), values.clone(), injection.moment)
    return injection.only_rows(faulty[0], keys), injection.only_rows(faulty[1], values)


@contextmanager
def _changed_model(injection: Injection, model: Any) -> Iterator[None]:
    """Attributes of modules, other ones for a pass."""
    changes = list(injection.fault.act(model, injection.moment))
    injection.acted += len(changes)
    before = [(thing, name, getattr(thing, name)) for thing, name, _ in changes]
    try:
        for thing, name, value in changes:
            setattr(thing, name, value)
        yield
    finally:
        for thing, name, value in before:
            setattr(thing, name, value)


@contextmanager
def installed(model: Any) -> Iterator[None]:
    """A context in which the model's class and transformers' caches ask for faults."""
    from transformers import Cache

    kind, forward, update = type(model), type(model).forward, Cache.update

    @functools.wraps(forward)
    def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        injection = _CURRENT[0]
        cache = next((named[name] for name in CACHE_NAMES if named.get(name) is not None), None)
        if injection is None or cache is None:
            return forward(self, *arguments, **named)
        return _with_fault(injection, forward, self, cache, named)

    @functools.wraps(update)
    def updated(self: Any, keys: torch.Tensor, values: torch.Tensor, layer: int, *rest: Any, **named: Any) -> Pair:
        return shown(*update(self, *kept(keys, values, layer), layer, *rest, **named), layer)

    kind.forward, Cache.update = watched, updated
    try:
        yield
    finally:
        kind.forward, Cache.update = forward, update


def _with_fault(injection: Injection, forward: Any, model: Any, cache: Any, named: dict[str, Any]) -> Any:
    ids = named["input_ids"]
    injection.enter(model, len(ids), ids.shape[1])
    moment = injection.moment
    assert moment is not None
    if injection.fault.hook == "window" and moment.past == 0:
        injection.fault.act(cache, moment)
    for hook, states in (("conv", "conv_states"), ("recurrent", "recurrent_states")):
        if injection.acts(hook):
            for layer in cache.layers:
                _change_states(injection, layer, states)
    if injection.acts("inputs"):
        _change_inputs(injection, named)
    changed = injection.acts("model") or (injection.acts("window") and moment.is_step)
    with _changed_model(injection, model) if changed else nullcontext():
        output = forward(model, **named)
    output.logits = out(output.logits)
    injection.moment = None
    return output


def _change_states(injection: Injection, layer: Any, name: str) -> None:
    states = getattr(layer, name, None) or {}
    for state in states.values() if isinstance(states, dict) else states:
        if state is not None:
            state.copy_(injection.only_rows(injection.fault.act(state.clone(), injection.moment), state))


def _change_inputs(injection: Injection, named: dict[str, Any]) -> None:
    moment = injection.moment
    assert moment is not None
    before = dict(named)
    if named.get("attention_mask") is None:
        before["attention_mask"] = torch.ones(moment.rows, moment.context, dtype=torch.long)
    if named.get("position_ids") is not None:
        before["position_ids"] = named["position_ids"].expand(moment.rows, -1)
    after = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in before.items()}
    injection.fault.act(after, moment)
    for name, value in after.items():
        if isinstance(value, torch.Tensor) and not torch.equal(value, before[name]):
            named[name] = injection.only_rows(value, before[name])


# The faults. Models by what is wrong with them: attention's caches, then what only some architectures have.

ANY = ("llama", "gpt2", "own-matmul")
BOTH = ("llama", "gpt2")
RECURRENT = ("qwen3_next", "jamba")
CONVOLVED = ("lfm2", "qwen3_next")
FAULTS: list[Fault] = []


def fault(name: str, hook: str, on: tuple[str, ...], passes: str = "steps", workload: str = "plain") -> Any:
    """Enters a function as a fault."""

    def enter(act: Callable[..., Any]) -> Callable[..., Any]:
        FAULTS.append(Fault(name, on, hook, act, passes, workload))
        return act

    return enter


def of_layers(act: Callable[..., Pair], which: str) -> Callable[..., Pair]:
    """The same in one layer alone: the first, or the last."""

    def acting(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
        wanted = 0 if which == "first" else moment.layers - 1
        return act(keys, values, moment) if moment.layer == wanted else (keys, values)

    return acting


def _in_layers(name: str, act: Callable[..., Pair], on: tuple[str, ...] = ANY, hook: str = "shown") -> None:
    """A fault in every layer, and the same in one."""
    FAULTS.append(Fault(f"{name}, every layer", on, hook, act))
    FAULTS.append(Fault(f"{name}, last layer", on, hook, of_layers(act, "last")))


def _old(keys: torch.Tensor, moment: Moment) -> int:
    """The index of a prompt token near its end, real in every row; behind a window the oldest but one."""
    return max(keys.shape[2] - moment.submitted - moment.step - 3, 1)


def _overwritten(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    place = _old(keys, moment)
    for states in (keys, values):
        states[:, :, place] = states[:, :, place - 1]
    return keys, values


def _zeroed(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    place = _old(keys, moment)
    keys[:, :, place] = values[:, :, place] = 0
    return keys, values


def _oldest_zeroed(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    rows = torch.arange(len(keys))
    keys[rows, :, moment.oldest(keys)] = 0
    values[rows, :, moment.oldest(keys)] = 0
    return keys, values


def _swapped_keys(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    place = _old(keys, moment)
    keys[:, :, [place - 1, place]] = keys[:, :, [place, place - 1]]
    return keys, values


def _late(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    for states in (keys, values):
        states[:, :, -1] = states[:, :, -2]
    return keys, values


def _shifted_values(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    return keys, torch.cat([values[:, :, :1], values[:, :, :-1]], 2)


def _rows_swapped(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    return keys.flip(0), values.flip(0)


def _newest_repeated(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    for states in (keys, values):
        states[:, :, -2] = states[:, :, -1]
    return keys, values


_in_layers("a token overwritten by its neighbour", _overwritten)
_in_layers("a token's keys and values zeroed", _zeroed)
_in_layers("the oldest token's keys and values zeroed", _oldest_zeroed)
_in_layers("keys of two neighbours swapped", _swapped_keys)
_in_layers("the newest token not yet written (stale)", _late)
_in_layers("the last token overwritten by the newest", _newest_repeated, BOTH)
_in_layers("values one token late", _shifted_values, BOTH)
_in_layers("rows exchanged", _rows_swapped, BOTH)


@fault("keys of one row read by the other", "shown", BOTH)
def _one_row(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    keys[1:] = keys[:1].clone()
    return keys, values


@fault("keys of one head are another's", "shown", BOTH)
def _head_keys(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    keys[:, 0] = keys[:, 1]
    return keys, values


@fault("keys of one head in the last layer zeroed", "shown", BOTH)
def _head_zeroed(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    if moment.layer == moment.layers - 1:
        keys[:, 0] = 0
    return keys, values


@fault("values of one head zeroed", "shown", BOTH)
def _head_values(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    values[:, 0] = 0
    return keys, values


@fault("heads exchanged in the last layer", "shown", BOTH)
def _heads(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    if moment.layer == moment.layers - 1:
        return keys.flip(1), values.flip(1)
    return keys, values


@fault("the last layer reads the first one's cache", "shown", BOTH)
def _layer_before(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    if moment.layer != moment.layers - 1:
        return keys, values
    before = moment.memory["seen", 0]
    return before[0].clone(), before[1].clone()


@fault("the first slot kept from the prompt before", "shown", ANY)
def _from_before(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    """Of the last layer, once the prompt before has left something there."""
    if moment.layer != moment.layers - 1:
        return keys, values
    name, rows, oldest = ("first", moment.batch), torch.arange(len(keys)), moment.oldest(keys)
    before = moment.memory.get(("first", 1 - moment.batch))
    moment.memory[name] = keys[rows, :, oldest].clone(), values[rows, :, oldest].clone()
    if before is not None and before[0].shape == keys[:, :, 0].shape:
        keys[rows, :, oldest], values[rows, :, oldest] = before
    return keys, values


def _scaled(which: str, factor: float, *, one: bool = False) -> Callable[..., Pair]:
    def act(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
        past = slice(None, -moment.submitted)
        if one:
            past = slice(max(_old(keys, moment) - 5, 0), _old(keys, moment) + 1)
        if which != "values":
            keys[:, :, past] *= factor
        if which != "keys":
            values[:, :, past] *= factor
        return keys, values

    return act


FAULTS += [
    Fault("past keys 1 % too large", ANY, "shown", _scaled("keys", 1.01)),
    Fault("past values 1 % too large", ANY, "shown", _scaled("values", 1.01)),
    Fault("past keys 3 % too large", ANY, "shown", _scaled("keys", 1.03)),
    Fault("past values 3 % too large", ANY, "shown", _scaled("values", 1.03)),
    Fault("past keys 0.0003 % too large", ANY, "shown", _scaled("keys", 1.000003)),
    Fault("past values 0.0003 % too large", ANY, "shown", _scaled("values", 1.000003)),
    Fault("past keys 0.01 % too large", ANY, "shown", _scaled("keys", 1.0001)),
    Fault("past values 0.01 % too large", ANY, "shown", _scaled("values", 1.0001)),
    Fault("six old values 0.01 % too large", ANY, "shown", _scaled("values", 1.0001, one=True)),
    Fault("six old values 1 % too large", ANY, "shown", _scaled("values", 1.01, one=True)),
]


def _copied(change: Callable[[torch.Tensor], torch.Tensor], which: str = "both") -> Callable[..., Pair]:
    def act(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
        return change(keys) if which != "values" else keys, change(values) if which != "keys" else values

    return act


def _through(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda states: states.to(dtype).to(states.dtype)


def _codes(steps: int, dim: int | None) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(states: torch.Tensor) -> torch.Tensor:
        wide = states.float()
        largest = wide.abs().amax() if dim is None else wide.abs().amax(dim, keepdim=True)
        step = largest.clamp(min=1e-12) / steps
        return ((wide / step).round() * step).to(states.dtype)

    return change


FAULTS += [
    Fault(f"an undeclared {name} copy of {which}", on, "kept", _copied(change, which), "all")
    for name, change, which, on in (
        ("float16", _through(torch.float16), "both", ANY),
        ("bfloat16", _through(torch.bfloat16), "both", ANY),
        ("fp8 (e4m3)", _through(torch.float8_e4m3fn), "both", ANY),
        ("fp8 (e5m2)", _through(torch.float8_e5m2), "keys", BOTH),
        ("int8, by token,", _codes(127, -1), "both", ANY),
        ("int8, by token,", _codes(127, -1), "keys", BOTH),
        ("int8, by tensor,", _codes(127, None), "both", BOTH),
        ("int4, by token,", _codes(7, -1), "values", BOTH),
    )
]


# Positions and masks.


def _position(change: Callable[[torch.Tensor, Moment], torch.Tensor]) -> Callable[..., None]:
    def act(arguments: dict[str, Any], moment: Moment) -> None:
        arguments["position_ids"] = change(arguments["position_ids"], moment).clamp(min=0)

    return act


FAULTS += [
    Fault("positions one too large", ANY, "inputs", _position(lambda places, moment: places + 1)),
    Fault("positions one too small", ANY, "inputs", _position(lambda places, moment: places - 1)),
    Fault("positions begin anew behind the prompt", ANY, "inputs", _position(lambda places, m: places * 0 + m.step)),
    Fault("positions stand still", ANY, "inputs", _position(lambda p, m: p - m.step + 1)),
    Fault("the prompt's positions one too large", BOTH, "inputs", _position(lambda p, m: p + 1), "prefill"),
    Fault("padding counted in positions", BOTH, "inputs", _position(lambda p, m: p + m.padding[:, None])),
    Fault("the first row's positions for all", BOTH, "inputs", _position(lambda p, m: p[:1].expand(len(p), -1))),
]


@fault("padding left visible", "inputs", BOTH)
def _visible(arguments: dict[str, Any], moment: Moment) -> None:
    arguments["attention_mask"] = torch.ones_like(arguments["attention_mask"])


@fault("one column of padding left visible", "inputs", BOTH)
def _one_visible(arguments: dict[str, Any], moment: Moment) -> None:
    mask = arguments["attention_mask"]
    mask[torch.arange(len(mask)), (moment.padding - 1).clamp(min=0)] = 1


@fault("the first token masked", "inputs", (*BOTH, "embedded"))
def _first_masked(arguments: dict[str, Any], moment: Moment) -> None:
    mask = arguments["attention_mask"]
    mask[torch.arange(len(mask)), moment.padding] = 0


@fault("the last token masked", "inputs", BOTH)
def _last_masked(arguments: dict[str, Any], moment: Moment) -> None:
    arguments["attention_mask"][:, -2] = 0


@fault("the last prompt token masked", "inputs", BOTH)
def _prompt_masked(arguments: dict[str, Any], moment: Moment) -> None:
    arguments["attention_mask"][:, moment.prompt - 1] = 0


@fault("all but the prompt masked", "inputs", BOTH)
def _prompt_alone(arguments: dict[str, Any], moment: Moment) -> None:
    arguments["attention_mask"][:, moment.prompt : -1] = 0


@fault("the mask one column off", "inputs", BOTH)
def _mask_shifted(arguments: dict[str, Any], moment: Moment) -> None:
    mask = arguments["attention_mask"]
    arguments["attention_mask"] = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, :-1]], 1)
    arguments["attention_mask"][:, -1] = 1


@fault("the mask of another row", "inputs", BOTH)
def _mask_swapped(arguments: dict[str, Any], moment: Moment) -> None:
    arguments["attention_mask"] = arguments["attention_mask"].flip(0)


@fault("the token before submitted again", "inputs", BOTH)
def _again(arguments: dict[str, Any], moment: Moment) -> None:
    ids = arguments["input_ids"]
    before = moment.memory.get(("ids", moment.batch, moment.step - 1))
    moment.memory["ids", moment.batch, moment.step] = ids.clone()
    if before is not None:
        arguments["input_ids"] = before


# What a cached step computes with.


def _modules(model: Any, name: str, value: Callable[[Any], Any], last: bool = False) -> Iterator[tuple[Any, str, Any]]:
    found = [module for module in model.modules() if isinstance(getattr(module, name, None), (int, float))]
    for module in found[-1:] if last else found:
        yield module, name, value(getattr(module, name))


def _scaling(factor: float) -> Callable[..., Any]:
    def act(model: Any, moment: Moment) -> Iterator[tuple[Any, str, Any]]:
        for name in ("scaling", "scale"):
            yield from _modules(model, name, lambda value: value * factor)

    return act


def _epsilon(value: float, *, last: bool = False) -> Callable[..., Any]:
    def act(model: Any, moment: Moment) -> Iterator[tuple[Any, str, Any]]:
        names = [name for name in ("variance_epsilon", "eps") if any(_modules(model, name, float))]
        for name in names:
            yield from _modules(model, name, lambda _: value, last)

    return act


def _rotary(factor: float) -> Callable[..., Any]:
    def act(model: Any, moment: Moment) -> Iterator[tuple[Any, str, Any]]:
        for module in model.modules():
            if isinstance(getattr(module, "inv_freq", None), torch.Tensor):
                yield module, "inv_freq", module.inv_freq * factor

    return act


def _config(name: str, value: Callable[[Any], Any]) -> Callable[..., Any]:
    def act(model: Any, moment: Moment) -> Iterator[tuple[Any, str, Any]]:
        yield model.config, name, value(getattr(model.config, name))

    return act


def _attribute(name: str, value: Callable[[Any], Any], last: bool = False) -> Callable[..., Any]:
    return lambda model, moment: _modules(model, name, value, last)


def _activation(name: str, made: Callable[[], Any]) -> Callable[..., Any]:
    def act(model: Any, moment: Moment) -> Iterator[tuple[Any, str, Any]]:
        for module in list(model.modules()):
            if isinstance(getattr(module, name, None), torch.nn.Module):
                yield module, name, made()

    return act


def _without_bias(model: Any, moment: Moment) -> Iterator[tuple[Any, str, Any]]:
    last = next(module for name, module in model.named_modules() if name.endswith("1.attn.c_proj"))
    yield last, "bias", torch.nn.Parameter(last.bias + 0.01, requires_grad=False)


ROTATED = ("llama", "qwen3")
FAULTS += [
    Fault("attention's scale 1 % off", ("llama", "qwen3", "gpt2"), "model", _scaling(1.01)),
    Fault("attention's scale 3 % off", ("llama", "qwen3", "gpt2"), "model", _scaling(1.03)),
    Fault("attention's scale 0.0003 % off", ("llama", "qwen3", "gpt2"), "model", _scaling(1.000003)),
    Fault("attention's scale 0.01 % off", ("llama", "qwen3", "gpt2"), "model", _scaling(1.0001)),
    Fault("the norms' epsilon 1e-3", ("llama", "qwen3", "gpt2", "own-matmul"), "model", _epsilon(1e-3)),
    Fault("the norms' epsilon 1e-5", ("llama", "qwen3", "own-matmul"), "model", _epsilon(3e-5)),
    Fault("the last norm's epsilon 1e-3", ("llama", "gpt2"), "model", _epsilon(1e-3, last=True)),
    Fault("rotary frequencies 1 % off", ROTATED, "model", _rotary(1.01)),
    Fault("rotary frequencies 0.01 % off", ROTATED, "model", _rotary(1.0001)),
    Fault("rotary scaling forgotten (half the frequencies)", ROTATED, "model", _rotary(0.5)),
    Fault("rotary embedding's length 1 % off", ROTATED, "model", _attribute("attention_scaling", lambda v: v * 1.01)),
    Fault("another GELU (tanh or not)", ("gpt2",), "model", _activation("act", torch.nn.GELU)),
    Fault("another GELU (tanh or not)", ("gemma", "embedded"), "model", _activation("act_fn", torch.nn.GELU)),
    Fault("a bias of the last attention 0.01 off", ("gpt2",), "model", _without_bias),
    Fault("attention's soft cap left out", ("gemma2",), "model", _attribute("attn_logit_softcapping", lambda v: None)),
    Fault(
        "attention's soft cap 10 % off", ("gemma2",), "model", _attribute("attn_logit_softcapping", lambda v: v * 0.9)
    ),
    Fault("the logits' soft cap left out", ("gemma2",), "model", _config("final_logit_softcapping", lambda v: None)),
    Fault("one expert instead of two", ("mixtral",), "model", _attribute("top_k", lambda v: 1)),
    Fault(
        "the window one token short", ("mistral", "gemma3_text"), "model", _config("sliding_window", lambda v: v - 1)
    ),
    Fault("half the window", ("mistral",), "model", _config("sliding_window", lambda v: v // 2)),
]


def _without_window(cache: Any, moment: Moment) -> None:
    """Every layer keeps all, and nothing masks what lies before the window."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    for place, layer in enumerate(cache.layers):
        if isinstance(layer, DynamicSlidingWindowLayer):
            cache.layers[place] = DynamicLayer()


def _window(tokens: int) -> Callable[..., Any]:
    def act(thing: Any, moment: Moment) -> Any:
        if moment.past == 0 and hasattr(thing, "layers"):
            return _without_window(thing, moment)
        return [(thing.config, "sliding_window", thing.config.sliding_window + tokens)]

    return act


FAULTS += [
    Fault("the window forgotten", ("mistral", "gemma3_text"), "window", _window(4096)),
    Fault("the window one token long", ("mistral", "gemma3_text"), "window", _window(1)),
]


def _last_row(factor: float) -> Callable[..., torch.Tensor]:
    def act(logits: torch.Tensor, moment: Moment) -> torch.Tensor:
        logits[-1] *= factor
        return logits

    return act


def _one_logit(logits: torch.Tensor, moment: Moment) -> torch.Tensor:
    logits[..., 7] *= 1.05
    return logits


FAULTS += [
    Fault("logits 1 % too large", (*BOTH, "gemma2"), "logits", lambda logits, moment: logits * 1.01),
    Fault("logits 0.01 % too large", BOTH, "logits", lambda logits, moment: logits * 1.0001),
    Fault("the last row's logits 1 % too large", BOTH, "logits", _last_row(1.01)),
    Fault("one logit 5 % off", BOTH, "logits", _one_logit),
    Fault("logits 0.01 higher", BOTH, "logits", lambda logits, moment: logits + 0.01),
]


# States that are not of attention.


def _third_lost(state: torch.Tensor, moment: Moment) -> torch.Tensor:
    """Before every third step the state of the step before comes back."""
    name = ("lost", moment.batch, tuple(state.shape))
    before = moment.memory.get(name)
    moment.memory[name] = state.clone()
    return before if before is not None and moment.step % 3 == 0 else state


def _state(name: str, change: Callable[[torch.Tensor, Moment], torch.Tensor]) -> None:
    FAULTS.append(Fault(f"convolution state {name}", CONVOLVED, "conv", change))
    FAULTS.append(Fault(f"recurrent state {name}", RECURRENT, "recurrent", change))


_state("1 % too large", lambda state, moment: state * 1.01)
_state("0.01 % too large", lambda state, moment: state * 1.0001)
_state("zeroed", lambda state, moment: state * 0)
_state("of another row", lambda state, moment: state.flip(0))
_state("in bfloat16", lambda state, moment: state.to(torch.bfloat16).to(state.dtype))
_state("in fp8", lambda state, moment: state.to(torch.float8_e4m3fn).to(state.dtype))
_state("of the step before, every third step", _third_lost)
_state("rolled by one", lambda state, moment: state.roll(1, -1))


# What chunks, and static caches, get wrong.


@fault("the last token of the piece before lost", "shown", BOTH, "prefill", "chunk")
def _piece_lost(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    if moment.past:
        for states in (keys, values):
            states[:, :, moment.past - 1] = states[:, :, moment.past - 2]
    return keys, values


@fault("positions begin anew with each piece", "inputs", BOTH, "prefill", "chunk")
def _piece_positions(arguments: dict[str, Any], moment: Moment) -> None:
    arguments["position_ids"] = (arguments["position_ids"] - moment.past).clamp(min=0)


@fault("the piece before masked", "inputs", BOTH, "prefill", "chunk")
def _piece_masked(arguments: dict[str, Any], moment: Moment) -> None:
    arguments["attention_mask"][:, max(moment.past - CHUNK, 0) : moment.past] = 0


@fault("written one slot late", "shown", BOTH, "steps", "static")
def _slot_late(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    place = moment.context - 1
    for states in (keys, values):
        states[:, :, place + 1], states[:, :, place] = states[:, :, place].clone(), 0
    return keys, values


@fault("the slot before cleared", "shown", BOTH, "steps", "static")
def _slot_cleared(keys: torch.Tensor, values: torch.Tensor, moment: Moment) -> Pair:
    keys[:, :, moment.context - 2] = values[:, :, moment.context - 2] = 0
    return keys, values


# The trained model, whose scores are those of a real one: the same faults as above.
TRAINED = (
    "a token overwritten by its neighbour, last layer",
    "the newest token not yet written (stale), last layer",
    "past values 0.01 % too large",
    "past keys 1 % too large",
    "an undeclared float16 copy of both",
    "an undeclared int8, by token, copy of both",
    "positions one too large",
    "positions one too small",
    "the last token masked",
    "one column of padding left visible",
    "attention's scale 1 % off",
    "rotary frequencies 0.01 % off",
    "the norms' epsilon 1e-5",
    "the first slot kept from the prompt before",
)


def faults_of(model: str) -> list[Fault]:
    """What is tried on a model."""
    return [each for each in FAULTS if model in each.on or (model == "embedded" and each.name in TRAINED)]
