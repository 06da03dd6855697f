"""`kvbench.watch`: what a script of your own submits to a model at each step, and whether the cache is used."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from transformers import PreTrainedModel

from kvbench.errors import ConfigError
from kvbench.models.signature import signature_of
from kvbench.text import format_value, shortened
from kvbench.watching.findings import Finding, findings_of
from kvbench.watching.generations import Generation, generations_of
from kvbench.watching.hooks import chain_of, hooked
from kvbench.watching.pass_writer import PassWriter
from kvbench.watching.seen_pass import Observation, WatchedModel
from kvbench.watching.told import told
from kvbench.watching.watch_record import WatchRecord, recorded
from kvbench.watching.words import sentence

if TYPE_CHECKING:
    from kvbench.measured_run import MeasuredRun

STILL_ON = "the watch is still on: look at it after the with block, so that reading it does not disturb the script"


class watch:  # noqa: N801 - it is used as a function is: `with kvbench.watch(model) as seen`
    """Watch a model while your own code runs, and tell whether its KV cache is used and what to change.

        with kvbench.watch(model) as seen:
            text = my_generate(model, prompt)   # generate, a pipeline, a hand-written loop, a chat turn
        print(seen)                             # sentences, each ending with what to change
        seen.advice                             # the sentences that ask for a change, as a list
        seen.record.model_dump(mode="json")     # every pass, as plain data
        seen.to_html()                          # one small page
        seen.measure()                          # kvbench.measure on the same prompt and lengths

    `model` is a transformers model, one wrapped by PEFT or torch.compile, a pipeline, or a module or object of your own
    that is called as `model(ids)` or `model(ids, cache)`. Nothing waits for the device while the watch is on, and
    everything is taken out of the model again at its end, whatever happens. No token and no text is kept in the record.

    Raises `kvbench.errors.ConfigError` for something that cannot be watched, such as a function.
    """

    def __init__(self, model: Any) -> None:
        model = _inside_a_pipeline(model)
        self._chain = chain_of(model)
        _require_watchable(model)
        self._hooks = PassWriter(self._chain)
        self._undo = ExitStack()
        self._wall_s: float | None = None
        self._measured: MeasuredRun | None = None

    def __enter__(self) -> Self:
        self._undo.enter_context(hooked(self._chain, self._hooks))
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wall_s = time.perf_counter() - self._began
        self._undo.close()

    @cached_property
    def _observation(self) -> Observation:
        if self._wall_s is None:
            raise ConfigError(STILL_ON)
        return self._hooks.observation(_watched(self._chain), self._wall_s)

    @cached_property
    def _generations(self) -> list[Generation]:
        return generations_of(self._observation.passes)

    @cached_property
    def record(self) -> WatchRecord:
        """Everything that was seen; `record.model_dump(mode="json")` is plain data.

        Raises `kvbench.errors.ConfigError` while the watch is on.
        """
        return recorded(self._observation, self._generations, findings_of(self._observation, self._generations))

    @property
    def advice(self) -> list[str]:
        """The sentences that end with what to change; empty where there is nothing to."""
        return [finding.text for finding in self.record.findings if finding.change]

    def __str__(self) -> str:
        if self._wall_s is None:
            return STILL_ON
        return told(self.record) if self._measured is None else f"{told(self.record)}\n\n{self._comparison()}"

    def __repr__(self) -> str:
        if self._wall_s is None:
            return "<kvbench.watch: on>"
        seen = f"{len(self.record.passes):,} forward passes of {self.record.model}"
        return f"<kvbench.watch: {seen}, {len(self.advice)} to change>"

    def _repr_html_(self) -> str | None:
        from kvbench.watching.watch_page import fragment

        return None if self._wall_s is None else fragment(self.record)

    def to_html(self) -> str:
        """One self-contained page of a few kilobytes: the sentences, the passes and a table."""
        from kvbench.watching.watch_page import page

        return page(self.record)

    def measure(self, **settings: Any) -> MeasuredRun:
        """What a loop with a cache takes on this machine for the watched lengths, measured, and why.

        `kvbench.measure` on the same model, with the prompts of the longest generation that was seen and as many new
        tokens. `settings` are arguments of `kvbench.measure`, which win. Afterwards `print(seen)` tells the result too.

        Raises `kvbench.errors.KvbenchError` as `kvbench.measure` does, and `ConfigError` while the watch is on or where
        no generation was seen.
        """
        from kvbench.python_api import measure

        if self._wall_s is None:
            raise ConfigError(STILL_ON)
        decoding = [each for each in self._generations if each.kind == "decoding"]
        if not decoding:
            raise ConfigError("seen.measure: no decoding was seen, so there are no lengths to measure at")
        longest = self._longest = max(decoding, key=lambda each: each.positions)
        prompt_tokens = max(1, longest.past_at_start + longest.prompt)
        lengths: dict[str, Any] = {"new_tokens": max(2, longest.tokens), "batch_size": longest.rows}
        ids = longest.first.ids
        if ids is not None and ids.shape[1] == prompt_tokens:
            lengths["prompts"] = ids.tolist()
        else:
            lengths["prompt_tokens"] = prompt_tokens
        if "prompts" in settings or "prompt_tokens" in settings:
            lengths = {name: value for name, value in lengths.items() if name not in ("prompts", "prompt_tokens")}
        self._measured = measure(self._chain[-1], **{**lengths, **settings})
        return self._measured

    def _comparison(self) -> str:
        """What was measured beside what was watched, and the diagnosis."""
        assert self._measured is not None
        lines = ["Measured by kvbench at these lengths, median time per token"]
        lines += [f"- {arm.name}: {format_value(arm.itl_s.value, 's')}" for arm in self._measured.arms]
        workload = self._measured.workload
        for arm in self._measured.arms:
            if (
                workload is not None
                and arm.mode == "cached"
                and arm.ttft_s.value is not None
                and arm.itl_s.value is not None
            ):
                steps = workload.new_tokens - 1
                arguments = {
                    "tokens": steps + 1,
                    "watched_s": self._longest.model_s,
                    "wall_s": self._longest.wall_s,
                    "cached_s": arm.ttft_s.value + steps * arm.itl_s.value,
                }
                lines.append(f"- {sentence(Finding('measured', arguments))}")
                break
        lines += [f"- {each.text}" for comparison in self._measured.comparisons for each in comparison.diagnosis]
        return "\n".join(lines)


def _inside_a_pipeline(model: Any) -> Any:
    inside = getattr(model, "model", None)
    is_pipeline = not isinstance(model, torch.nn.Module) and type(model).__module__.startswith("transformers.")
    return inside if is_pipeline and isinstance(inside, torch.nn.Module) else model


IMMUTABLE = 1 << 8  # Python's flag of types whose attributes cannot be set, such as that of functions


def _require_watchable(model: Any) -> None:
    if isinstance(model, torch.nn.Module):
        return
    if isinstance(model, (str, type)) or not callable(model):
        raise ConfigError(f"kvbench.watch: takes a loaded model, not {shortened(repr(model))}")
    if type(model).__flags__ & IMMUTABLE:
        raise ConfigError(
            f"kvbench.watch: a {type(model).__name__} cannot be watched: pass the module that it calls, or an object of"
            " a class with __call__"
        )


def _watched(chain: tuple[Any, ...]) -> WatchedModel:
    named, inside = chain[0], chain[-1]
    parameters = list(inside.parameters()) if isinstance(inside, torch.nn.Module) else []
    floating = next((each for each in parameters if each.is_floating_point()), None)
    signature = signature_of(inside) if isinstance(inside, torch.nn.Module) else None
    wrapper = None
    if len(chain) > 1:
        wrapper = "torch.compile" if hasattr(named, "_orig_mod") else type(named).__name__
    return WatchedModel(
        name=type(inside).__name__,
        dtype="not known" if floating is None else str(floating.dtype).removeprefix("torch."),
        device=str(parameters[0].device) if parameters else "cpu",
        cache_argument=None if signature is None else signature.cache or signature.state,
        keeps_logits=signature is not None and signature.logits_to_keep,
        is_transformers=isinstance(inside, PreTrainedModel),
        dropout=_drops_out(inside),
        checkpointing=_checkpoints(inside),
        wrapper=wrapper,
    )


def _drops_out(model: Any) -> bool:
    """Whether training mode changes what the model computes: a layer of dropout, or a probability in its config."""
    if isinstance(model, torch.nn.Module):
        layers = (each for each in model.modules() if isinstance(each, torch.nn.modules.dropout._DropoutNd))
        if any(layer.p > 0 for layer in layers):
            return True
    config = getattr(getattr(model, "config", None), "__dict__", {})
    named = (value for name, value in config.items() if "drop" in name)
    return any(isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 for value in named)


def _checkpoints(model: Any) -> bool:
    modules = model.modules() if isinstance(model, torch.nn.Module) else ()
    return any(getattr(each, "gradient_checkpointing", False) is True for each in modules)
