"""The arms of a run held against the first one, and against the model in a wider type, which rounds less."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from kvbench.capabilities import QUANTIZATIONS, takes_masks
from kvbench.decoding.agreement import compare, distances
from kvbench.decoding.caches import CacheMaker
from kvbench.decoding.compared_steps import BLOCK, Edges
from kvbench.decoding.forward import Forward
from kvbench.decoding.protocol import PromptBatch
from kvbench.decoding.sampling import is_greedy
from kvbench.decoding.token_path import Compared, SinglePass
from kvbench.errors import ModelUnavailable, is_out_of_memory, reason_of
from kvbench.model_facts import extends_context, rope_switch
from kvbench.models.checkpoint import DTYPES
from kvbench.models.devices import free_bytes
from kvbench.records.agreement_figures import AgreementFigures, ReferenceDistance
from kvbench.records.evidence import RunWarning
from kvbench.records.untimed import UntimedPass
from kvbench.running.model_on_device import ModelOnDevice
from kvbench.running.preconditions import fits_beside_itself, reference_device
from kvbench.running.torch_session import TorchSession
from kvbench.running.wide_model import WideModel

EAGER_BYTES = 12  # a score of eager attention at its worst: in float32 before and after the softmax, and its mask
# What rounds less; of quantised weights there is nothing wider.
WIDER = {"float16": "float32", "bfloat16": "float32", "float32": "float64"}
WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size")


def agreements(
    session: TorchSession, passes: Sequence[UntimedPass], tell: Callable[[int, int], None]
) -> list[AgreementFigures]:
    """Every arm but the first compared with the first on its token path; `passes` are the arms' untimed passes."""
    with wider_model(session.model, session.plan.config.model.quantization, session.meter.reset) as (wide, why_none):
        found = compare(_compared(session, wide, why_none), [each.tokens for each in passes], tell)
    sampling = session.plan.config.sampling
    sampled, penalised = not is_greedy(sampling), sampling.repetition_penalty != 1.0
    return [replace(figures, sampled=sampled, penalised=penalised) for figures in found]


def references(session: TorchSession, passes: Sequence[UntimedPass]) -> list[ReferenceDistance] | list[RunWarning]:
    """How far every arm is from the same model in the type of `check.reference`, or why that is not known.

    A kernel that knows no such type fails here alone: what is known of the arms stands without a reference.
    """
    wanted, model = session.plan.config.check.reference, session.model
    device = reference_device(wanted, model.loaded.facts, model.device)
    wide: WideModel | None = None
    run: Compared | None = None
    try:
        wide = WideModel(model.loaded.model, DTYPES[wanted], device)
        run = _compared(session, wide, "")
        return distances(run, [each.tokens for each in passes], wanted, device.type)
    except (RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        why = f"check.reference={wanted}: the model cannot be computed in it ({reason_of(error)}); use another type"
        return [RunWarning(code="reference_failed", detail=why)]
    finally:
        wide = run = None
        session.meter.reset()


@contextmanager
def wider_model(
    model: ModelOnDevice, quantization: str, reset: Callable[[], None]
) -> Iterator[tuple[WideModel | None, str]]:
    """The model in a type that rounds less, where there is one and room for it; elsewhere None, and why in words.

    `reset` is called once it has gone.
    """
    dtype = str(model.loaded.model.dtype).removeprefix("torch.")
    wanted = WIDER.get(dtype)
    why_none = ""
    if quantization != "none" or getattr(model.loaded.model, "is_quantized", False):
        why_none = "quantised weights have no wider type"
    elif wanted is None or (wanted == "float64" and model.device.type == "mps"):
        why_none = f"{model.device.type} has no type wider than {dtype}"
    elif model.is_spread:
        why_none = "the model lies on several devices"
    elif not fits_beside_itself(wanted, model):
        why_none = f"the weights in {wanted} do not fit beside the model"
    if why_none or wanted is None:
        yield None, why_none
        return
    try:
        yield WideModel(model.loaded.model, DTYPES[wanted], model.device), ""
    finally:
        reset()


def _compared(session: TorchSession, wide: WideModel | None, why_none: str) -> Compared:
    plan, model, decoders = session.plan, session.model, session.decoders
    interruptions = session.prepared.interruptions
    return Compared(
        batches=session.batches,
        batch_members=session.batches.members,
        dtype=computed_in(model, plan.config.model.quantization),
        caches=[arm.cache for arm in plan.arms],
        # A model of one's own is handed no mask.
        takes_masks=not model.is_own and takes_masks(plan.arms[0].attention, model.device.type),
        vocabulary=model.loaded.facts.vocab_size or 1,
        edges=_edges(session),
        whole=plan.config.check.agreement != "few",
        context=interruptions.context,
        decoder=decoders.plain,
        unprepared=decoders.unprepared,
        round_trip=decoders.round_trip,
        second_attention=lambda batch: session.team.led(
            lambda: second_attention(model, plan.arms[0].attention, batch)  # by the memory that is left
        ),
        wider=None if wide is None else partial(wide.recomputed, interruptions),
        wider_dtype="" if wide is None else str(wide.dtype).removeprefix("torch."),
        without_wider=why_none,
        first_is_plain=plan.arms[0].mode in ("nocache", "nocache_naive") and not plan.arms[0].repeats,
        model=model.loaded.model,
        experts=model.loaded.facts.experts or 0,
        repeats=[arm.repeats for arm in plan.arms],
        single=single_pass(model.forward),
        chunk=plan.config.workload.prefill_chunk,
        # The passes after an interruption are what an interrupted arm is about.
        wanted_steps=tuple(later for step in interruptions.steps for later in (step, step + 1)),
    )


def computed_in(model: ModelOnDevice, quantization: str) -> str:
    """The type whose rounding shows in the logits."""
    return QUANTIZATIONS[quantization].arithmetic or str(model.loaded.model.dtype).removeprefix("torch.")


def _edges(session: TorchSession) -> Edges:
    """Where the arms of a run may begin to compute otherwise: windows, changing rotary embeddings, buckets, chunks."""
    plan, config = session.plan, session.model.loaded.model.config
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    lengths = {
        length: f"a window of {length:,} tokens"
        for name in WINDOWS
        if isinstance(length := getattr(text_config, name, None), int)
    }
    changes = rope_switch(config) or (session.model.loaded.facts.max_context if extends_context(config) else None)
    if changes is not None:
        lengths[changes] = f"{changes:,} tokens, where the rotary embeddings change"
    sizes = {arm.bucket: f"a bucket's edge ({arm.bucket} tokens)" for arm in plan.arms if arm.bucket}
    if chunk := plan.config.workload.prefill_chunk:
        sizes[chunk] = f"a chunk's edge ({chunk} tokens)"
    multiples = {size: what for size, what in sizes.items() if size > 1}
    return Edges(lengths, {BLOCK: f"a multiple of {BLOCK} tokens"} | multiples)


def second_attention(model: ModelOnDevice, first: str, batch: PromptBatch) -> str | None:
    """An attention other than the model's own and `first`, the first arm's; None where there is none that fits."""
    if "eager" in (model.own_attention, first):
        # Where eager is an architecture's own choice, SDPA may lack something of it, such as soft-capping.
        return "sdpa" if model.own_attention == "sdpa" else None
    rows, length = len(batch.lengths), batch.positions.shape[1]
    scores = rows * (model.loaded.facts.attention_heads or 0) * length**2
    fits = scores * EAGER_BYTES < free_bytes(model.device) / 2
    return "eager" if scores and fits else None


def single_pass(forward: Forward) -> SinglePass | None:
    """The model with a cache that keeps every token, filled in one pass; None where it takes no cache."""

    def fill(batch: PromptBatch) -> Any:
        cache = CacheMaker(forward, "dynamic").new(len(batch.lengths), batch.longest)
        for index, layer in enumerate(getattr(cache, "layers", ())):
            if type(layer) is DynamicSlidingWindowLayer:
                cache.layers[index] = DynamicLayer()
        with torch.inference_mode():
            forward.last_logits(batch.input_ids, batch, batch.longest, cache=cache, use_cache=True)
        return cache

    def step(cache: Any, batch: PromptBatch) -> torch.Tensor:
        with torch.inference_mode():
            return forward.last_logits(batch.input_ids[:, -1:], batch, batch.longest, cache=cache, use_cache=True).cpu()

    try:
        forward.require_cache()
    except ModelUnavailable:
        return None
    return SinglePass(fill, step)
