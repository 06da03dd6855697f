"""What a plan asks of the machine and of a loaded model, checked before anything is measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import DynamicSlidingWindowLayer

from kvbench.arm import Arm, device_conflict, too_short
from kvbench.cache_layers import DTYPE_BYTES
from kvbench.capabilities import CACHES, HALF_ONLY_ATTENTION, MODES, STATIC_STEP, takes_masks
from kvbench.decoding.caches import repeatable_cache, require_cache_classes
from kvbench.decoding.forward import Forward
from kvbench.decoding.protocol import PromptBatch
from kvbench.errors import ConfigError, DeviceUnavailable, ModelUnavailable, PromptError, reason_of
from kvbench.library_versions import untested
from kvbench.measuring.environment import found_compiler
from kvbench.model_costs import keeps_all_conflict, predicted_bytes, quantised_conflict
from kvbench.model_facts import ModelFacts, extends_context, rope_switch
from kvbench.models.devices import free_bytes, require_fit
from kvbench.models.draft import Draft
from kvbench.models.loading import LoadedModel
from kvbench.models.own import OwnCausalLM
from kvbench.models.signature import signature_of
from kvbench.models.unsuited import require_decoder, require_own_generate
from kvbench.passes import UNINTERRUPTED, Buckets, Interruptions
from kvbench.plan import Plan
from kvbench.running.model_on_device import ModelOnDevice
from kvbench.text import shortened

REFERENCE_ROOM = 1.25  # bytes of a wider copy over those of its weights: activations and logits of a pass


def require_machine(plan: Plan, device: torch.device) -> None:
    """Raise `DeviceUnavailable` or `ModelUnavailable` when an arm lacks something of this machine, before loading."""
    for arm in plan.arms:
        if conflict := device_conflict(arm, device.type):
            raise DeviceUnavailable(conflict)
    if plan.config.model.weights != "python":
        require_cache_classes(arm.cache for arm in plan.arms)
    for name in sorted({arm.engine for arm in plan.arms} & {"compiled", "fused"}):
        missing = _missing_on_gpu() if device.type == "cuda" else _missing_on_host()
        if missing:
            raise DeviceUnavailable(f"engine={name}: {missing}, or use engine=eager")


def require_model(plan: Plan, model: ModelOnDevice) -> None:
    """Raise `BadInput` when an arm cannot run on the model or its device, or the reference cannot be had."""
    if not model.is_own:
        require_decoder(model.loaded.model, with_past=any(arm.keeps_past for arm in plan.arms))
        if any(not MODES[arm.mode].ours for arm in plan.arms):
            require_own_generate(model.loaded.model)
    _require_arms(plan.arms, model.forward, model.device)
    if not model.is_own:
        _require_caches(plan.arms, model.loaded.model, model.loaded.facts)
    for arm in plan.arms:
        if arm.proposes:
            _require_proposals(arm.mode, model.loaded.model)
    _require_reference(plan.config.check.reference, model)


def require_prompts(
    plan: Plan, model: ModelOnDevice, prompts: Sequence[Sequence[int]], interruptions: Interruptions
) -> None:
    """Raise `BadInput` when the prompts, as token ids, are not for this model or too long for it or for a cache."""
    facts, lengths, new_tokens = model.loaded.facts, list(map(len, prompts)), plan.config.workload.new_tokens
    if plan.prompts.token_ids:
        _require_ids(prompts, facts.vocab_size)
    elif not model.is_own:
        _require_tokenizer(prompts, interruptions.message_ids, model.loaded)
    _require_context(lengths, new_tokens, facts, interruptions)
    needed = interruptions.context(max(lengths), new_tokens)
    _require_static_room(plan.arms, needed, model.loaded.model, facts)
    if not model.is_own:
        contexts = range(min(lengths), needed + 1)
        _require_one_rotation(plan.arms, contexts, model.loaded.model.config, facts.max_context)


def require_batches(
    plan: Plan, model: ModelOnDevice, batches: Sequence[PromptBatch], interruptions: Interruptions
) -> None:
    """Raise `ConfigError` when batches need masks that an arm takes none of, `Infeasible` when caches do not fit."""
    chunk, inserts = plan.config.workload.prefill_chunk, bool(interruptions.message_ids)
    _require_masks(plan.arms, batches, model.loaded.model, model.device, chunk=chunk, inserts=inserts)
    if any(arm.mode == "prefix" for arm in plan.arms):
        _require_prefix(batches, model.loaded.model)
    if plan.config.frontier.axes is None:  # else what fits is found out, not refused
        _require_cache_memory(plan.arms, batches, model.rank_facts, model.device)


def require_draft(plan: Plan, draft: Draft, prompts: Sequence[Sequence[int]]) -> None:
    """Raise `BadInput` when a draft cannot read the whole text, or cannot take back what it proposed."""
    require_decoder(draft.model, with_past=True)
    _require_proposals("assisted", draft.model)
    text = draft.model.config.get_text_config()
    limit = None if extends_context(draft.model.config) else getattr(text, "max_position_embeddings", None)
    needed = max(map(len, prompts)) + plan.config.workload.new_tokens
    if limit is not None and needed > limit:
        raise ConfigError(
            f"assisted.model={plan.config.assisted.model}: reads at most {limit} tokens, and the run has {needed}:"
            " lower workload.new_tokens, or choose another draft"
        )

    window = _shortest_window(draft.model)
    if window is not None and window <= needed and not drafts_beyond_windows():
        raise ModelUnavailable(
            f"assisted.model={plan.config.assisted.model}: transformers {transformers.__version__} cannot draft beyond"
            f" a window of {window} tokens, and the run has {needed}: pip install -U transformers, or choose another"
            " draft"
        )


def _shortest_window(model: Any) -> int | None:
    """Tokens of the shortest window that a layer's cache forgets behind; None where none forgets."""
    layers: Sequence[Any] = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    return min((layer.sliding_window for layer in layers if getattr(layer, "is_sliding", False)), default=None)


def drafts_beyond_windows() -> bool:
    """Whether a layer with a window shows no more than that window where several passes go by without a `crop`.

    Older versions show all that they keep, for which the mask is too short.
    """
    layer, token = DynamicSlidingWindowLayer(sliding_window=2), torch.zeros(1, 1, 1, 1)
    layer.activate_past_recording()
    shown = [layer.update(token, token)[0].shape[-2] for _ in range(3)]
    return shown[-1] == 2


def _require_prefix(batches: Sequence[PromptBatch], model: Any) -> None:
    """Raise `ConfigError` when a batch shares no beginning, `ModelUnavailable` when no cache can be copied."""
    if signature_of(model).cache is None or not _copies_rows(model):
        raise ModelUnavailable(
            f"mode prefix: {type(model).__name__} keeps a state besides keys and values, which transformers does not"
            " copy to other sequences: leave it out"
        )
    for batch in batches:
        if len(batch.lengths) == 1 or batch.shared:
            continue
        if len(set(batch.lengths)) > 1:
            raise ConfigError(
                "mode prefix: prompts of a batch differ in length, so that padding stands before what they share: give"
                " prompts of one length, or workload.prompt_tokens with workload.shared_tokens"
            )
        raise ConfigError(
            "mode prefix: the prompts of a batch begin with different tokens: give prompts that begin alike, or set"
            " workload.shared_tokens"
        )


def _copies_rows(model: Any) -> bool:
    """Whether all that its layers keep can be copied to other rows; states of convolutions and the like cannot."""
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    return not any(hasattr(layer, "update_conv_state") for layer in layers)


def _require_proposals(mode: str, model: Any) -> None:
    """Raise `ModelUnavailable` when rejected tokens cannot be taken back."""
    if signature_of(model).cache is None or getattr(model, "_is_stateful", False):
        raise ModelUnavailable(
            f"mode {mode}: {type(model).__name__} keeps a state out of which no token can be taken back: leave it out"
        )


def _missing_on_gpu() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed: pip install triton"
    if found_compiler("cuda") is None:
        return "Triton found no C compiler: install gcc or set CC"
    return None


def _missing_on_host() -> str | None:
    return None if found_compiler("cpu") else "torch.compile found no C++ compiler: install g++ or set CXX"


def _require_arms(arms: Sequence[Arm], forward: Forward, device: torch.device) -> None:
    """Raise `DeviceUnavailable` or `ModelUnavailable` when an arm cannot run on this device or model."""
    for arm in arms:
        if conflict := device_conflict(arm, device.type):
            raise DeviceUnavailable(conflict)
        if arm.keeps_past and MODES[arm.mode].ours:
            forward.require_cache()
            if (version := untested()) and not forward.fills_cache():
                raise ModelUnavailable(
                    f"{type(forward.model).__name__} did not fill the cache that it was handed, so mode=cached cannot"
                    f" run: {version}"
                )
        if arm.attention in HALF_ONLY_ATTENTION and forward.model.dtype not in (torch.bfloat16, torch.float16):
            dtype = str(forward.model.dtype).removeprefix("torch.")
            raise ConfigError(
                f"attention={arm.attention}: knows bfloat16 and float16, and the model is in {dtype}: set model.dtype"
            )


def _require_caches(arms: Sequence[Arm], model: Any, facts: ModelFacts) -> None:
    """Raise `ModelUnavailable` when an arm's cache does not exist here or cannot hold this model's layers."""
    require_cache_classes(arm.cache for arm in arms)
    for arm in arms:
        if conflict := quantised_conflict(facts, arm.cache):
            raise ModelUnavailable(f"cache={arm.cache}: {conflict}: use cache=dynamic")
        if conflict := keeps_all_conflict(facts, arm.cache):
            raise ModelUnavailable(f"cache={arm.cache}: {conflict}: use cache=dynamic")
        if arm.keeps_past and arm.cache in CACHES and arm.cache != "dynamic" and signature_of(model).cache is None:
            raise ModelUnavailable(
                f"cache={arm.cache}: {type(model).__name__} makes a cache of its own kind: use cache=dynamic"
            )
        if arm.keeps_past and arm.is_static:
            _require_static_layers(arm, model)


# By model type, what only an error in the middle of a pass would tell (docs/architectures.md).
NO_STATIC_CACHE = {"prophetnet": "it adds a bias to each score, for as many keys as there are tokens"}


def _require_static_layers(arm: Arm, model: Any) -> None:
    """Raise `ModelUnavailable` when transformers has no static layer of a kind that the model has (DeepSeek-V4's).

    Or when the model does not attend to more keys than there are tokens.
    """
    if why := NO_STATIC_CACHE.get(model.config.model_type):
        raise ModelUnavailable(
            f"cache={arm.cache}: {type(model).__name__} takes no cache that is longer than the text ({why}): use"
            " cache=dynamic"
        )
    try:
        StaticCache(config=model.config, max_cache_len=STATIC_STEP)
    except Exception as error:  # a KeyError with the kind's name, or whatever a config of another shape brings about
        raise ModelUnavailable(
            f"cache={arm.cache}: transformers makes no static cache for {type(model).__name__} ({reason_of(error)}):"
            " use cache=dynamic"
        ) from error


def _require_static_room(arms: Sequence[Arm], needed: int, model: Any, facts: ModelFacts) -> None:
    """Raise `ConfigError` when a static cache is too short for the run or too long for the model.

    Raises `ModelUnavailable` when none will do.
    """
    context = facts.max_context
    for arm in arms:
        if arm.cache_tokens is not None and context is not None and arm.cache_tokens > context:
            raise ConfigError(f"cache_tokens={arm.cache_tokens}: longer than the model's context of {context} tokens")
        if conflict := too_short(arm, needed):
            raise ConfigError(conflict)
        if arm.repeats and arm.keeps_past and arm.is_static and MODES[arm.mode].ours:
            repeatable_cache(model.config, arm.static_cache_length(needed))


def _require_one_rotation(arms: Sequence[Arm], contexts: range, config: Any, most: int | None) -> None:
    """Raise `ConfigError` when a bucket's padding would change the frequencies that the tokens before it turn by."""
    switch, grows = rope_switch(config), extends_context(config)
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    for arm in arms:
        padded = Buckets(arm.bucket or 1, most).padded
        crosses = switch is not None and any(each <= switch < padded(each) for each in contexts)
        rescales = grows and stated and any(each < padded(each) > stated for each in contexts)
        if crosses or rescales:
            kind, where = ("longrope", switch) if crosses else ("dynamic NTK", stated)
            raise ConfigError(
                f"bucket={arm.bucket}: passes are padded beyond {where} tokens, where this model's rotary positions"
                f" change with the length of a pass ({kind}): use bucket=1"
            )


def _require_masks(
    arms: Sequence[Arm],
    batches: Sequence[PromptBatch],
    model: Any,
    device: torch.device,
    *,
    chunk: int | None,
    inserts: bool,
) -> None:
    """Raise `ConfigError` when an attention or a model takes no mask where prompts or a model need one.

    So does a pass of several tokens on a past: a prompt's further pieces of `chunk` tokens, or a message that the run
    `inserts`.
    """
    appended = None
    if inserts:
        appended = "an inserted message follows a past: leave interrupt.message out, or use attention=sdpa"
    if chunk is not None and any(batch.input_ids.shape[1] > chunk for batch in batches):
        appended = "the pieces of a prompt follow a past: leave workload.prefill_chunk out, or use attention=sdpa"
    masked = None
    if getattr(model.config, "separates_documents", False):
        masked = "this model masks what lies before an end of document: use attention=sdpa"
    elif any(batch.mask is not None for batch in batches):
        masked = "prompts of a batch differ in length: set workload.batch_size=1, or use attention=sdpa"
    if masked and isinstance(model, OwnCausalLM):
        raise ConfigError(
            "workload.batch_size: prompts of a batch differ in length, and a model of one's own is handed no mask: set"
            " workload.batch_size=1, or one length by workload.prompt_tokens"
        )
    for arm in arms:
        if masked and not takes_masks(arm.attention, device.type):
            raise ConfigError(f"attention={arm.attention}: takes no mask on {device.type}, and {masked}")
        behind = "tokens that are checked together follow a past: use attention=sdpa"
        if (arm.proposes or arm.mode == "prefix") and not takes_masks(arm.attention, device.type):
            raise ConfigError(f"attention={arm.attention}: takes no mask on {device.type}, and {behind}")
        if appended and arm.keeps_past and not takes_masks(arm.attention, device.type):
            raise ConfigError(f"attention={arm.attention}: takes no mask on {device.type}, and {appended}")


def _require_ids(prompts: Sequence[Sequence[int]], vocab_size: int | None) -> None:
    """Raise `PromptError` for a token id that the model does not have; it may be given ids instead of texts."""
    for number, ids in enumerate(prompts, start=1):
        wrong = next((token for token in ids if token < 0 or (vocab_size is not None and token >= vocab_size)), None)
        if wrong is not None:
            raise PromptError(f"prompt {number} holds the token id {wrong}, and the vocabulary has {vocab_size} tokens")


def _require_tokenizer(prompts: Sequence[Sequence[int]], message: Sequence[int], loaded: LoadedModel) -> None:
    """Raise `ModelUnavailable` when the tokenizer gives ids that the model has no embedding for."""
    rows = _embeddings(loaded)
    largest = max(token for ids in (*prompts, message) for token in ids)
    if rows is not None and largest >= rows:
        raise ModelUnavailable(
            f"the tokenizer of {loaded.facts.name} gives the token id {largest}, and the model has {rows} embeddings:"
            " they are not of one model; restore the folder's tokenizer.json or its config.json"
        )


def _embeddings(loaded: LoadedModel) -> int | None:
    """Token ids that the model knows, by the table that it looks them up in; None where it is of another kind."""
    try:
        table = loaded.model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return loaded.facts.vocab_size
    return getattr(table, "num_embeddings", None)


def _require_context(lengths: Sequence[int], new_tokens: int, facts: ModelFacts, interruptions: Interruptions) -> None:
    """Raise `PromptError` or `ConfigError` when prompts, new tokens and inserted messages exceed the context."""
    limit = facts.max_context
    if limit is None:
        return
    longest = max(lengths)
    if longest >= limit:
        raise PromptError(
            f"prompt {lengths.index(longest) + 1} has {longest} tokens, {facts.name} reads at most {limit}:"
            " shorten it, or lower workload.prompt_tokens"
        )
    inserted = interruptions.context(0, new_tokens) - new_tokens
    if inserted and longest + new_tokens + inserted > limit:
        raise ConfigError(
            f"interrupt.message: inserted {len(interruptions.steps)} times it adds {inserted} tokens to"
            f" {longest + new_tokens}, and {facts.name} reads at most {limit}: use fewer interrupt.steps"
        )
    if longest + new_tokens > limit:
        raise ConfigError(
            f"workload.new_tokens={new_tokens}: with a prompt of {longest} tokens {facts.name} has room for"
            f" {limit - longest} (context {limit})"
        )


def _require_cache_memory(
    arms: Sequence[Arm], batches: Sequence[PromptBatch], facts: ModelFacts, device: torch.device
) -> None:
    """Raise `Infeasible` when the cache is predicted not to fit beside the loaded weights, or on the host."""
    for arm in arms:
        needed = 0
        for batch in batches:
            prompt, total = batch.input_ids.shape[1], batch.positions.shape[1]
            found = predicted_bytes(facts, arm, len(batch.lengths), prompt, total - prompt + 1, UNINTERRUPTED)
            needed = max(needed, found or 0)
        waits_on_host = arm.cache in CACHES and CACHES[arm.cache].offloaded
        require_fit(needed, torch.device("cpu") if waits_on_host else device, "the KV cache")


def _require_reference(wanted: str, model: ModelOnDevice) -> None:
    """Raise `ConfigError` when there is no wider type of this model, `Infeasible` when its copy fits nowhere."""
    if wanted == "none":
        return
    facts = model.loaded.facts
    if getattr(model.loaded.model, "is_quantized", False):
        raise ConfigError(f"check.reference={wanted}: the weights are quantised and have no wider type; leave it out")
    if DTYPE_BYTES.get(facts.dtype or "", 0) >= DTYPE_BYTES[wanted]:
        wider = "use check.reference=float64" if wanted == "float32" and facts.dtype == "float32" else "leave it out"
        raise ConfigError(f"check.reference={wanted}: the model computes in {facts.dtype} already; {wider}")
    place = reference_device(wanted, facts, model.device)
    require_fit(_reference_bytes(wanted, facts), place, f"the model in {wanted} beside itself (check.reference)")


def reference_device(wanted: str, facts: ModelFacts, device: torch.device) -> torch.device:
    """Where the wider copy goes: the model's own device when it fits there, else the CPU."""
    has_type = device.type != "mps" or wanted != "float64"
    return device if has_type and _reference_bytes(wanted, facts) <= free_bytes(device) else torch.device("cpu")


def fits_beside_itself(wanted: str, model: ModelOnDevice) -> bool:
    """Whether a copy of the model in a wider type has room on its own device."""
    return _reference_bytes(wanted, model.loaded.facts) <= free_bytes(model.device)


def _reference_bytes(wanted: str, facts: ModelFacts) -> int:
    return int((facts.parameters or 0) * DTYPE_BYTES[wanted] * REFERENCE_ROOM)


def stop_ids_of(plan: Plan, loaded: LoadedModel) -> tuple[int, ...]:
    """The ids that end a sequence in the timed runs. Raises `ConfigError` for ids that the model cannot write."""
    rule = plan.stop_rule
    ids = end_ids(loaded)  # also where they end nothing: the page greys what follows them
    if rule == "ignore":
        return ()
    tokenizer, vocab_size = loaded.tokenizer, loaded.facts.vocab_size
    if isinstance(rule, tuple):
        tokens = tuple(token if isinstance(token, int) else _id_of(token, tokenizer) for token in rule)
        beyond = next((token for token in tokens if vocab_size is not None and token >= vocab_size), None)
        if beyond is not None:
            raise ConfigError(f"workload.stop={list(rule)}: {beyond} is past the vocabulary of {vocab_size} tokens")
        return tokens
    if not ids:
        raise ConfigError("workload.stop=tokenizer: this tokenizer names no end token; give ids, such as [2]")
    return ids


def _id_of(token: str, tokenizer: Any) -> int:
    number = tokenizer.get_vocab().get(token)
    if number is None:
        ends = tokenizer.eos_token
        hint = f"its end token is {ends}" if ends else "give ids, such as [2]"
        raise ConfigError(f"workload.stop=['{token}']: this tokenizer has no such token; {hint}")
    return int(number)


def end_ids(loaded: LoadedModel) -> tuple[int, ...]:
    """Where a text ends: the model's generation defaults know all of a chat model's ends, the tokenizer one.

    Raises `ModelUnavailable` where what is stated there is no token id.
    """
    ids = loaded.model.generation_config.eos_token_id
    if ids is None:
        ids = loaded.tokenizer.eos_token_id
    if ids is None:
        return ()
    stated = tuple(ids) if isinstance(ids, (list, tuple)) else (ids,)
    if not all(isinstance(each, int) for each in stated):
        name = getattr(loaded.model, "name_or_path", "") or loaded.facts.name
        raise ModelUnavailable(
            f"generation_config.json of {name} states eos_token_id={shortened(str(ids))}, which is no token id:"
            " correct it"
        )
    return stated


def pad_id_of(loaded: LoadedModel) -> int:
    """What fills rows after their end: the first of the tokenizer that the model has an embedding for, or else 0."""
    ids = (loaded.tokenizer.pad_token_id, loaded.tokenizer.eos_token_id)
    rows = _embeddings(loaded)
    return next((int(each) for each in ids if each is not None and (rows is None or 0 <= int(each) < rows)), 0)
