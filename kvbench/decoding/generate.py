"""transformers' own `generate` behind the decoder protocol: one call, exactly as a user writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    CompileConfig,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from kvbench.capabilities import CACHES
from kvbench.decoding.caches import quantiser_arguments
from kvbench.decoding.protocol import Decoded, Observer, PromptBatch
from kvbench.decoding.sampling import Forced
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import ModelUnavailable, reason_of
from kvbench.models.signature import CACHE_NAMES, library_cache, returned_cache, signature_of
from kvbench.passes import WHOLE, Chunks

# What transformers raises where it has no cache to hand from one piece of a prompt to the next.
NO_PIECES = ("Cannot use prefill chunking", *(f"has no attribute '{name}'" for name in CACHE_NAMES))


class Generate:
    """`generate(use_cache=…)`. Its stopping criteria are where it can be observed after every token.

    `arguments` are the sampling settings as `generate` names them; `forced`, when given, chooses every token instead.
    `cache` is a kind of cache; `generate` makes it, or is handed one that forgets nothing. Only with one can a prompt
    go in `chunks`. With `compile_mode` it compiles its step, which it does beside a static cache on a GPU.
    """

    def __init__(
        self,
        model: Any,
        arguments: dict[str, Any],
        setting: SessionSettings,
        pad_id: int,
        *,
        use_cache: bool,
        cache: str = "dynamic",
        compile_mode: str | None = None,
        forced: Forced | None = None,
        chunks: Chunks = WHOLE,
    ) -> None:
        self._model = model
        self._arguments = {"do_sample": False} if forced else arguments
        self._setting = setting
        self._pad_id = pad_id
        self._use_cache = use_cache
        self._chunk = {"prefill_chunk_size": chunks.size} if use_cache and chunks.size else {}
        self._proposing: dict[str, Any] = {}
        self._keeps_all = use_cache and cache in CACHES and not CACHES[cache].windows
        self._caching: dict[str, Any] = _caching(cache, model) if use_cache else {}
        self._caching["disable_compile"] = compile_mode is None
        if compile_mode is not None:
            self._caching["compile_config"] = CompileConfig(mode=compile_mode)
        self._processors = LogitsProcessorList([_Forcing(forced)] if forced else [])

    def prepare(self, block: int | None) -> None:  # noqa: ARG002 - a real model does not drift by script
        """Sets the attention and the seed."""
        self._setting.apply(self._model)

    def run(self, batch: PromptBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """One call of `generate`. No passes are handed back: what it submits is seen by a `PassRecorder` alone.

        Raises `ModelUnavailable` where it cannot hand a prompt to the model in pieces.
        """
        prompt = batch.input_ids.shape[1]
        mask = batch.mask[:, :prompt] if batch.mask is not None else torch.ones_like(batch.input_ids)
        config = GenerationConfig(
            max_new_tokens=new_tokens,
            eos_token_id=list(stop_ids) or None,
            pad_token_id=self._pad_id,
            use_cache=self._use_cache,
            return_dict_in_generate=True,
            **self._caching,
            **self._arguments,
            **self._chunk,
            **self._proposing,
        )
        # Else every static cache is as long as the longest before it, whatever this run needs.
        vars(self._model).pop("_previous_max_cache_length", None)
        own_defaults = self._model.generation_config
        # `generate` fills what is unset from the model's own defaults, which could add penalties or stop tokens.
        self._model.generation_config = GenerationConfig()
        try:
            with torch.inference_mode(), self._setting.pinned_backend():
                output = self._model.generate(
                    batch.input_ids,
                    attention_mask=mask,
                    generation_config=config,
                    logits_processor=self._processors,
                    **self._further(observer, prompt),
                    **(signature_of(self._model).handing(DynamicCache()) if self._keeps_all else {}),
                )
        except (AttributeError, ValueError) as error:
            self._explain(error)
            if not self._chunk or not any(words in str(error) for words in NO_PIECES):
                raise
            raise ModelUnavailable(
                f"workload.prefill_chunk: generate cannot hand {type(self._model).__name__} a prompt in pieces"
                f" ({reason_of(error)}): leave it out, or mode=generate"
            ) from error
        finally:
            self._model.generation_config = own_defaults
        cache = returned_cache(output) if self._use_cache else None
        return self._decoded(output.sequences[:, prompt:], cache)

    def _further(self, observer: Observer, prompt: int) -> dict[str, Any]:
        """What else `generate` is called with: where it can be observed."""
        return {"stopping_criteria": StoppingCriteriaList([_Telling(observer, prompt)])}

    def _explain(self, error: Exception) -> None:
        """Raise `ModelUnavailable` in the place of an error that is known."""

    def _decoded(self, new_ids: torch.Tensor, cache: Any | None) -> Decoded:
        return Decoded(new_ids, (), cache)


def compiles(model: Any, cache: Any) -> bool:
    """Whether `generate` compiles a model's step beside such a cache; where it does not, it goes on without a word."""
    return hasattr(model, "_compiled_call") and bool(
        model._valid_auto_compile_criteria(library_cache(cache), GenerationConfig())
    )


def _caching(kind: str, model: Any) -> dict[str, Any]:
    """How `generate` is asked for a kind of cache, in its own words."""
    spec = CACHES[kind] if kind in CACHES else CACHES["dynamic"]
    if spec.lossy:
        return {"cache_implementation": "quantized", "cache_config": quantiser_arguments(spec, model.config)}
    made_by_itself = spec.name == "dynamic" or not spec.windows
    return {} if made_by_itself else {"cache_implementation": spec.name}


class _Telling(StoppingCriteria):
    """Never stops; tells the observer of each new token."""

    def __init__(self, observer: Observer, prompt: int) -> None:
        self._observer = observer
        self._prompt = prompt

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - the base class's shape
        self._observer.on_token(input_ids.shape[1] - self._prompt - 1, input_ids[:, -1])
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class _Forcing(LogitsProcessor):
    """Leaves one token possible: the forced path's."""

    def __init__(self, forced: Forced) -> None:
        self._forced = forced

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        token = self._forced.choose(input_ids, scores)
        return torch.full_like(scores, -torch.inf).scatter(1, token.unsqueeze(1), 0.0)
