"""Writes down what every outermost pass through a model is handed and gives back, without waiting for the device."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from statistics import median_high
from typing import Any

import torch
from transformers import PreTrainedModel

from kvbench.decoding.recorder import WeightOperators
from kvbench.watching.between_passes import LIBRARIES, MOVES, listening
from kvbench.watching.cache_lengths import CacheLengths
from kvbench.watching.call_arguments import Arguments, cache_of, logits_of
from kvbench.watching.seen_pass import Gap, GenerateCall, Observation, SeenPass, WatchedModel

MOST_IDS = 4_000_000  # token ids that are kept to compare texts, 32 MB
EVERY = 64  # passes: behind each, and behind passes 1, 2, 4, 8 …, moves and casts are looked at
LOOKED_INTO = 3  # passes of a plain module whose inside is looked at: a prompt's and the first steps'
TRIED_CALLS = 2_000  # to see what a replaced method costs


class PassWriter:
    """Writes down the outermost passes through the modules of `chain`, the first of which was named by the user."""

    def __init__(self, chain: tuple[Any, ...]) -> None:
        self._chain = chain
        self._arguments = [Arguments(module) for module in chain]
        # Torch compiles nothing while operators are listened to.
        self._looks_inside = not any(isinstance(module, PreTrainedModel) or _is_compiled(module) for module in chain)
        self._lengths = CacheLengths()
        self._device = _device_of(chain[-1])
        self._on_cuda = self._device.type == "cuda"
        self._depth = 0
        self._outermost = -1
        self._current: SeenPass | None = None
        self._kept = 0
        self._submitted = -1  # by the last pass
        self._looking: ExitStack | None = None  # open in a gap in which moves and casts are looked at
        self._operators: WeightOperators | None = None
        self._call: GenerateCall | None = None
        self._calls = 0
        self.passes: list[SeenPass] = []
        self.gap = Gap()
        self.read_sites: Counter[tuple[str, str, int]] = Counter()
        self.move_sites: Counter[tuple[str, str, int]] = Counter()
        self.cast_sites: Counter[tuple[str, str, int]] = Counter()
        self.cost_s = 0.0
        self.calls = 0  # of replaced methods

    def begin(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module of the chain is called."""
        arrived = time.perf_counter()
        if self._depth and index == self._outermost:
            self._depth = 0  # an interrupt left the pass before without an end
            self._look_away()
        self._depth += 1
        if self._depth > 1:
            return
        self._outermost = index
        if self._on_cuda and torch.cuda.is_current_stream_capturing():
            self._current = None  # nothing of ours belongs into a captured graph
            return
        handed = self._arguments[index].read(args, kwargs)
        if handed is None:
            self._current = None
            return
        shape, ids, cache, argument, mask, labels = handed
        seen = self._current = SeenPass()
        seen.gap, self.gap = self.gap, Gap()
        seen.through, seen.call, seen.cache_argument = index, self._call, argument
        if len(shape) > 1:
            seen.rows = shape[0]
        seen.submitted = submitted = shape[-1] if len(shape) else 1
        if mask is not None and isinstance(mask, torch.Tensor) and mask.ndim == 2:
            seen.mask_length = mask.shape[1]
        if labels:
            seen.labels = True
        if cache is not None:
            seen.cache = number = self._lengths.number(cache)
            seen.cache_class = type(cache).__name__
            seen.past = self._lengths.length(cache, number)
        if submitted > 1 and submitted != self._submitted + 1 and ids is not None:
            self._keep(seen, ids)
        self._submitted = submitted
        if self._on_cuda:
            seen.events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            seen.events[0].record()
        if self._looks_inside and len(self.passes) < LOOKED_INTO:
            self._operators = WeightOperators()
            self._operators.rows = seen.rows
            self._operators.__enter__()  # type: ignore[no-untyped-call]
        if self._looking is not None:
            self._looking.close()
            self._looking = None
        seen.began = time.perf_counter()
        self.cost_s += seen.began - arrived

    def end(self, index: int, output: Any) -> None:
        """A module of the chain has returned, or raised: then there is no output."""
        ended = time.perf_counter()
        self._depth -= 1
        if self._depth or index != self._outermost:
            return
        operators = self._look_away()
        seen, self._current = self._current, None
        if seen is None:
            return
        if seen.events is not None:
            seen.events[1].record()
        if operators is not None and operators.positions:
            seen.computed = median_high(operators.positions)
        logits = logits_of(output)
        if output is not None:
            seen.ended = ended
        if logits is not None:
            seen.logits_shape, seen.logits_item_bytes = logits.shape, logits.itemsize
            if logits.requires_grad:
                seen.gradients = True
                logits.register_hook(_noting(seen))
        if getattr(self._chain[index], "training", False):
            seen.training_mode = True
        returned = cache_of(output)
        if returned is not None:
            seen.returned = self._lengths.number(returned)
            self._lengths.add(seen.returned, seen.past, seen.submitted)
        if seen.cache is not None and seen.cache != seen.returned:
            self._lengths.add(seen.cache, seen.past, seen.submitted)
        self.passes.append(seen)
        number = len(self.passes)
        if not number & (number - 1) or not number % EVERY:
            self.gap.looked = True
            self._looking = ExitStack()
            self._looking.enter_context(listening(self, MOVES))
        self.cost_s += time.perf_counter() - ended

    def calling(self, call: GenerateCall) -> Callable[[], None]:
        """A call of `generate` begins; what is returned is called at its end. One within another is not told."""
        if self._call is not None:
            return lambda: None
        call.number, self._calls = self._calls, self._calls + 1
        call.site = _site()
        self._call = call

        def ended() -> None:
            self._call = None

        return ended

    def _keep(self, seen: SeenPass, ids: torch.Tensor) -> None:
        """Keep the ids of a pass that may begin a text: not those of a step, which the pass before tells."""
        seen.site = _site() if self._call is None else self._call.site
        if self._kept + ids.numel() <= MOST_IDS:
            seen.ids = ids.detach().clone()
            self._kept += ids.numel()

    def _look_away(self) -> WeightOperators | None:
        """Stop listening to operators, which outlives a pass otherwise; what was heard, if any was listened to."""
        operators, self._operators = self._operators, None
        if operators is not None:
            operators.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        return operators

    def close(self) -> None:
        """The watch has ended."""
        self._look_away()
        if self._looking is not None:
            self._looking.close()
            self._looking = None

    # What `between_passes` tells.

    def read(self, method: str, tensor: torch.Tensor, site: tuple[str, int] | None) -> None:
        """A value was read to the host."""
        if tensor.device.type != self._device.type or (method == "cpu" and not self._on_cuda):
            return
        if self._depth:
            if self._current is not None and method != "__array__":
                self._current.inside_reads += 1
        elif site is None:
            self.gap.library_reads += 1
        else:
            self.gap.reads += 1
            self.read_sites[method, *site] += 1

    def moved(self, method: str, before: torch.Tensor, after: torch.Tensor, site: tuple[str, int] | None) -> None:
        """A tensor was changed in type or device."""
        if site is not None:
            if before.device == after.device:
                self.gap.casts += 1
                self.cast_sites[method, *site] += 1
            else:
                self.gap.moves += 1
                self.move_sites[method, *site] += 1

    def decoded(self, tokens: int) -> None:
        """Text was made of so many tokens."""
        self.gap.decodes += 1
        self.gap.decoded += tokens

    def encoded(self) -> None:
        """Tokens were made of a text."""
        self.gap.encodes += 1

    def observation(self, model: WatchedModel, wall_s: float) -> Observation:
        """All that was seen, on the host. Waits for the device, so it is asked when the watch has ended."""
        if self._on_cuda:
            torch.cuda.synchronize(self._device)
        takes_cache = any(each.cache_argument is not None for each in self._arguments)
        for seen in self.passes:
            seen.takes_cache = takes_cache
            if isinstance(seen.past, torch.Tensor):
                seen.past = int(seen.past)
            if isinstance(seen.ids, torch.Tensor):
                seen.ids = seen.ids.reshape(seen.rows, -1).cpu().numpy()
            if seen.events is not None:
                seen.device_s = seen.events[0].elapsed_time(seen.events[1]) / 1e3
                seen.events = None
        return Observation(
            model,
            tuple(self.passes),
            _shortened(self.read_sites),
            _shortened(self.move_sites),
            _shortened(self.cast_sites),
            wall_s,
            self.cost_s + self.calls * _cost_of_a_replaced_call(),
        )


def _is_compiled(module: Any) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _noting(seen: SeenPass) -> Callable[[torch.Tensor], None]:
    def note(_gradient: torch.Tensor) -> None:
        seen.backward = True

    return note


def _device_of(model: Any) -> torch.device:
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device


def _site() -> str | None:
    """File and line of the innermost frame that belongs to no library."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name not in LIBRARIES and not frame.f_code.co_filename.startswith("<frozen"):
            return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def _shortened(sites: Mapping[tuple[str, str, int], int]) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for (method, file, line), count in sites.items():
        found[method, f"{_short(file)}:{line}"] += count
    return dict(found)


def _short(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2]


def _cost_of_a_replaced_call() -> float:
    """Seconds that a replaced method costs beyond the method, measured on this machine."""
    counted = Counter[tuple[str, str, int]]()

    def seen(_tensor: Any, *_args: Any, **_kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            frame = sys._getframe(1)
            str(frame.f_globals.get("__name__", "")).partition(".")
            counted["item", frame.f_code.co_filename, frame.f_lineno] += 1

    started = time.perf_counter()
    for _ in range(TRIED_CALLS):
        seen(None)
    return (time.perf_counter() - started) / TRIED_CALLS
