"""The real thing: a transformers model on a device, prepared for one plan."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import psutil
import torch

from kvbench.capabilities import MODES, QUANTIZATIONS, attention_conflict, habits_of, takes_masks
from kvbench.config.schema import Config
from kvbench.decoding.agreement import FEW_STEPS, common_path, compare, first_divergence
from kvbench.decoding.batches import batch_indices, make_batch
from kvbench.decoding.cache_bytes import logical_bytes, storage_bytes
from kvbench.decoding.forward import forward_of
from kvbench.decoding.generate import Generate
from kvbench.decoding.habits import Habits
from kvbench.decoding.loops import CachedLoop, InterruptedLoop, Loop, NoCacheLoop
from kvbench.decoding.own_witness import witness_of
from kvbench.decoding.proof import prove, together
from kvbench.decoding.protocol import Chooser, Decoded, Decoder, Pass, PromptBatch, Unobserved
from kvbench.decoding.reference import reference_distances, widened
from kvbench.decoding.sampling import Forced, Sampler, generate_arguments, is_greedy
from kvbench.decoding.setting import TorchSetting
from kvbench.decoding.streaming import IncrementalText, TextObserver
from kvbench.decoding.tracing import Trace, TracedDecoder, TracingChooser, WatchedDecoder
from kvbench.decoding.witness import Witness
from kvbench.errors import DeviceUnavailable
from kvbench.interruptions import Interruptions
from kvbench.measuring import process_memory
from kvbench.measuring.agreement_figures import AgreementFigures, ReferenceFigures
from kvbench.measuring.arm_memory import ArmMemory, MemoryAtStep, Reconciliation
from kvbench.measuring.blocks import tokens_sha256
from kvbench.measuring.clocks import Clock, DeviceClock, HostClock
from kvbench.measuring.environment import device_uuid, torch_environment
from kvbench.measuring.memory import Footprint, MemoryMeter, footprint
from kvbench.measuring.samples import Prepared, Shapes
from kvbench.measuring.sensors import DeviceSensors, NullSensors, open_sensors
from kvbench.measuring.step_work import CountedFlops, StepWork
from kvbench.measuring.traced_pass import TracedPass, TracedToken
from kvbench.measuring.tries import Capacity
from kvbench.measuring.untimed_pass import Proof, UntimedPass
from kvbench.model_facts import kv_cache_bytes
from kvbench.models.checkpoint import DTYPES
from kvbench.models.devices import resolve
from kvbench.models.fitting import GIB, free_bytes
from kvbench.models.loading import LoadedModel, load
from kvbench.models.own import OwnCausalLM
from kvbench.models.own_loading import load_own
from kvbench.plan import Attempt, Plan, model_name
from kvbench.running import preconditions
from kvbench.running.confidence import TokenTexts, traced_sequences
from kvbench.running.shapes import Returned
from kvbench.running.step_work import counted_flops, step_work
from kvbench.workloads.tokens import message_ids, tokenise

LOOPS: dict[str, Callable[..., Loop]] = {
    "nocache": NoCacheLoop,
    "nocache_naive": NoCacheLoop,
    "cached": CachedLoop,
    "interrupted": InterruptedLoop,
    "resumed": CachedLoop,
}
DEFAULT_THREADS = torch.get_num_threads()  # a point of a sweep must not inherit those of the point before
SPREAD = "the model is spread over several devices, and one device's sensors would tell a part"
EAGER_BYTES = 12  # a score of eager attention at its worst: in float32 before and after the softmax, and its mask
HOST_SHARE = 0.9  # of what is free: beyond it the system ends processes, and not only the one that took it
WARMING_TOKENS = 256
OWN_FLOPS = "not counted: there is no prediction for a model of one's own to hold the count against"
PROFILED_BATCHES = 8  # of many, spread over them
PROFILED_STEPS = 4
SHOWN_PROMPTS = 4  # enough to see what the model does; the rest is in the record
SHOWN_TOKENS = 96  # a paragraph; a large model without a cache should not be waited for


class TorchBackend:
    """A loaded model on its device."""

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device,
        sensors: DeviceSensors,
        empty: Footprint | None = None,
        empty_rss_bytes: int = 0,
    ) -> None:
        self.loaded = loaded
        self.device = device
        self.sensors = sensors
        self.empty = empty
        self.empty_rss_bytes = empty_rss_bytes  # of this process before it had the model
        self.forward = forward_of(loaded.model)
        self.own_attention = str(loaded.model.config._attn_implementation)

    def session(self, plan: Plan) -> TorchSession:
        """See `Backend.session`."""
        return TorchSession(self, plan)


def load_backend(config: Config) -> TorchBackend:
    """Load the model that a configuration names. Raises as `open_backend` does."""
    device = resolve(config.device)
    torch.set_num_threads(config.threads or DEFAULT_THREADS)
    sensors = open_sensors(device_uuid(device))
    empty = footprint(device)  # before anything of ours is there
    rss_bytes = psutil.Process().memory_info().rss
    if config.model.weights == "python":
        loaded = load_own(config.model, model_name(config), device)
    else:
        loaded = load(config.model, device)
    return TorchBackend(loaded, device, sensors, empty, rss_bytes)


def environment_of(config: Config) -> dict[str, Any]:
    """The environment that a configuration would be measured in. Raises `DeviceUnavailable`."""
    device = resolve(config.device)
    torch.set_num_threads(config.threads or DEFAULT_THREADS)
    return torch_environment(device, open_sensors(device_uuid(device)))


class TorchSession:
    """One plan on a loaded model; see `Session`."""

    def __init__(self, backend: TorchBackend, plan: Plan) -> None:
        self._backend = backend
        self._plan = plan
        self._model = backend.loaded.model
        self._tokenizer = backend.loaded.tokenizer
        self._facts = backend.loaded.facts
        self._new_tokens = plan.config.workload.new_tokens
        self._meter = MemoryMeter(backend.device, backend.sensors, backend.empty)
        self._unseen = 0  # context lengths beyond those of the run that were used up
        self.clock: Clock = HostClock() if backend.device.type == "cpu" else DeviceClock(backend.device)
        preconditions.require_arms(plan.arms, backend.forward, backend.device)
        preconditions.require_reference(plan.config.check.reference, self._model, self._facts, backend.device)
        self._pad_id = preconditions.pad_id_of(self._tokenizer)
        self.stop_ids = preconditions.stop_ids_of(plan, self._model, self._tokenizer, self._facts.vocab_size)
        prompts = tokenise(plan, self._tokenizer)
        self._interruptions = Interruptions(plan.interrupt_steps, message_ids(plan, self._tokenizer))
        lengths = [len(prompt["token_ids"]) for prompt in prompts]
        preconditions.require_context(lengths, self._new_tokens, self._facts, self._interruptions)
        self.batch_members = batch_indices(len(prompts), plan.config.workload.batch_size)
        self.batches = tuple(
            self._batch(number, [prompts[index]["token_ids"] for index in members], self._new_tokens)
            for number, members in enumerate(self.batch_members)
        )
        preconditions.require_masks(plan.arms, self.batches, self._model, backend.device)
        if plan.config.frontier.axes is None:  # else what fits is found out, not refused
            preconditions.require_cache_memory(plan.arms, self.batches, self._facts, backend.device)
        self.prepared = Prepared(
            model={
                **asdict(self._facts),
                "attention": backend.own_attention,
                "computes_all_logits": backend.forward.full_logits,
            },
            environment=torch_environment(backend.device, backend.sensors),
            prompts=tuple(prompts),
            batches=self.batch_members,
            interruptions=self._interruptions,
            load_s=backend.loaded.load_s,
            unused_tensors=backend.loaded.unused_tensors,
            remarks=backend.loaded.remarks,
        )

    @property
    def sensors(self) -> DeviceSensors:
        """See `Session.sensors`; null ones for a model on several devices, of which one tells a part."""
        return NullSensors(SPREAD) if self._spread else self._backend.sensors

    @property
    def _spread(self) -> bool:
        return len(set(getattr(self._model, "hf_device_map", {}).values())) > 1

    @property
    def _is_own(self) -> bool:
        return isinstance(self._model, OwnCausalLM)

    @property
    def takes_masks(self) -> bool:
        """Whether the first arm's attention can leave padding out; a model of one's own is handed no mask."""
        return not self._is_own and takes_masks(self._plan.arms[0].attention, self._backend.device.type)

    def second_attention(self, batch: PromptBatch) -> str | None:
        """See `Reorderable.second_attention`."""
        own, first = self._backend.own_attention, self._plan.arms[0].attention
        if "eager" in (own, first):
            # Where eager is an architecture's own choice, SDPA may lack something of it, such as soft-capping.
            return "sdpa" if own == "sdpa" else None
        rows, length = len(batch.lengths), batch.positions.shape[1]
        scores = rows * (self._facts.attention_heads or 0) * length**2
        fits = scores * EAGER_BYTES < free_bytes(self._backend.device) / 2
        return "eager" if scores and fits else None

    @property
    def dtype(self) -> str:
        """The type whose rounding shows in the logits."""
        arithmetic = QUANTIZATIONS[self._plan.config.model.quantization].arithmetic
        return arithmetic or str(self._model.dtype).removeprefix("torch.")

    def decoder(
        self, arm: int, forced: Forced | None = None, *, traced: bool = False, attention: str | None = None
    ) -> Decoder:
        """See `Session.decoder`; `forced` follows a given path instead of sampling."""
        if not traced:
            return self._decoder(arm, forced or Sampler(self._plan.config.sampling), forced, attention)
        trace = Trace(self._plan.config.trace.top_k)
        if self._plan.arms[arm].mode in LOOPS:
            chooser = TracingChooser(forced or Sampler(self._plan.config.sampling), trace)
            return TracedDecoder(self._decoder(arm, chooser), trace)
        return TracedDecoder(WatchedDecoder(self.decoder(arm, forced), self._model, trace), trace)

    def _decoder(
        self, arm: int, chooser: Chooser, forced: Forced | None = None, attention: str | None = None
    ) -> Decoder:
        spec = self._plan.arms[arm]
        sampling = self._plan.config.sampling
        setting = TorchSetting(attention or spec.attention, self._backend.own_attention, sampling.seed)
        if MODES[spec.mode].ours:
            return LOOPS[spec.mode](
                self._backend.forward,
                chooser,
                setting,
                self._pad_id,
                habits=Habits(habits_of(spec.mode, spec.habit), self._text, max(1, self._plan.config.stream.interval)),
                interruptions=self._interruptions,
            )
        arguments = generate_arguments(sampling)
        return Generate(self._model, arguments, setting, self._pad_id, use_cache=spec.keeps_past, forced=forced)

    def new_ids(self, decoded: Decoded) -> list[list[int]]:
        """See `Session.new_ids`."""
        return [self._until_stop(row) for row in decoded.new_ids.tolist()]

    def proof(self, arm: int, batch: PromptBatch, passes: Sequence[Pass]) -> Proof:
        """See `Session.proof`."""
        spec, prompt = self._plan.arms[arm], self.context_of(batch)
        loses_past = spec.mode == "interrupted"
        return prove(passes, prompt, spec.keeps_past, self._interruptions, loses_past=loses_past)

    def context_of(self, batch: PromptBatch) -> int:
        """See `Session.context_of`."""
        return int(batch.input_ids.shape[1])

    def fresh_batch(self, batch: PromptBatch, seed: int) -> PromptBatch:
        """See `Session.fresh_batch`: a prompt's own tokens in another order."""
        dice = random.Random(seed)  # noqa: S311 - an order, not a secret
        rows = self._rows(batch)
        return self._batch(batch.index, [dice.sample(row, len(row)) for row in rows], self._new_tokens)

    def unseen_batch(self, arm: int, steps: int) -> PromptBatch | None:
        """See `Session.unseen_batch`: prompts prolonged past the end of the run, or cut short of its beginning."""
        spec = self._plan.arms[arm]
        if not MODES[spec.mode].ours or self._interruptions.steps:
            return None
        self._unseen += steps + 2
        seen = [self.context_of(batch) for batch in self.batches]
        length = self._interruptions.context(max(seen), self._new_tokens) + self._unseen - steps
        limit = self._facts.max_context
        if limit is not None and length + steps > limit:
            length = min(seen) - self._unseen
        if length < 1:
            return None
        rows = [_prolonged(row, length) for row in self._rows(self.batches[0])]
        return make_batch(0, rows, steps + 1, self._backend.device)

    def decode_batch(self, new_tokens: int) -> tuple[PromptBatch, int]:
        """See `Session.decode_batch`."""
        rows = self._rows(self.batches[0])
        if self._facts.max_context is not None:
            new_tokens = min(new_tokens, self._facts.max_context - max(map(len, rows)))
        return make_batch(0, rows, new_tokens, self._backend.device), new_tokens

    def other_attentions(self, arm: int) -> tuple[str, ...]:
        """See `Session.other_attentions`; found by trying, since availability depends on type, shape and device."""
        if self._is_own:
            return ()
        device = self._backend.device
        masked = self.batches[0].mask is not None or getattr(self._model.config, "separates_documents", False)
        for name in ("math",) if device.type == "cpu" else ("flash", "efficient", "math"):
            conflict = attention_conflict(name, device.type) is not None
            if conflict or name == self._plan.arms[arm].attention or (masked and not takes_masks(name, device.type)):
                continue
            try:
                decoder = self.decoder(arm, attention=name)
                decoder.prepare(None)
                decoder.run(self.batches[0], 2, Unobserved())
            except (RuntimeError, ValueError):  # no such kernel for this model
                continue
            return (name,)
        return ()

    def device_state(self) -> tuple[int | None, int | None]:
        """See `Session.device_state`."""
        return self._meter.device_allocations(), self._meter.outside_bytes()

    def step_work(self, arm: int) -> StepWork:
        """See `Session.step_work`: a few steps in the middle of the run, whose contexts are those of the mean step."""
        decoded = self._new_tokens - 1
        steps = min(PROFILED_STEPS, decoded)
        before = (decoded - steps) // 2
        chosen = self.batches[:: max(1, len(self.batches) // PROFILED_BATCHES)]
        batches = [
            self._batch(batch.index, [_prolonged(row, len(row) + before) for row in self._rows(batch)], steps + 1)
            for batch in chosen
        ]
        return step_work(arm, lambda: self.decoder(arm), batches, steps, self.clock)

    def counted_flops(self) -> CountedFlops:
        """See `Session.counted_flops`."""
        if self._is_own:
            rows, tokens = self.batches[0].input_ids.shape
            return CountedFlops(rows, tokens, None, OWN_FLOPS)
        return counted_flops(self._backend.forward, self.batches[0])

    def show_text(self, say: Callable[[str, str], None]) -> None:
        """See `Session.show_text`. Stops at the tokenizer's end, whatever the timed runs do: it is for reading."""
        arms = self._plan.arms
        arm = next((index for index, spec in enumerate(arms) if spec.mode == "cached"), 0)
        stop_ids = self.stop_ids or preconditions.end_ids(self._model, self._tokenizer)
        tokens = min(self._new_tokens, SHOWN_TOKENS)
        for prompt in self.prepared.prompts[:SHOWN_PROMPTS]:
            say("prompt", prompt["text"])
            text = IncrementalText(self._text)
            interval = self._plan.config.stream.interval
            observer = TextObserver(text, interval, stop_ids, lambda piece: say("piece", piece))
            decoder = self.decoder(arm)
            decoder.prepare(None)
            decoder.run(self._batch(0, [prompt["token_ids"]], tokens), tokens, observer, stop_ids)
            observer.finish()
            say("end", "")

    def untimed(self, arm: int) -> UntimedPass:
        """See `Session.untimed`."""
        self._meter.reset()
        largest = max(self.batches, key=lambda batch: len(batch.lengths) * batch.positions.shape[1])
        tokens: list[list[int]] = []
        digests: list[str] = []
        proofs: list[Proof] = []
        for batch in self.batches:
            decoder = self.decoder(arm)
            decoder.prepare(None)
            with witness_of(self._model, self._meter.allocated_bytes) as witness:
                decoded = decoder.run(batch, self._new_tokens, Unobserved(), self.stop_ids)
            ids = self.new_ids(decoded)
            tokens += ids
            digests.append(tokens_sha256(ids))
            proofs.append(replace(self.proof(arm, batch, witness.passes), unseen=witness.unseen))
            if batch is largest:
                cache_bytes = self._cache_bytes(arm, batch, decoded)
                in_use = self._meter.in_use()
                reconciliation = self._reconciliation(cache_bytes["kv_cache_storage_bytes"])
                by_step = self._memory_by_step(batch, witness)
            del decoded  # its cache must not be counted for the next batch
        return UntimedPass(
            arm=arm,
            tokens=tuple(map(tuple, tokens)),
            texts=tuple(map(self._text, tokens)),
            finish_reasons=tuple("stop" if ids[-1] in self.stop_ids else "length" for ids in tokens),
            tokens_sha256=tuple(digests),
            memory=ArmMemory(
                weights_bytes=self._facts.weight_bytes,
                **cache_bytes,
                **in_use,
                **self._meter.peaks(),
                reconciliation=reconciliation,
                null_reasons=self._memory_reasons(cache_bytes),
            ),
            memory_by_step=by_step,
            proof=together(proofs),
        )

    def capacity(self) -> Capacity:
        """See `Session.capacity`: a GPU's memory, or what this process may hold of the host's.

        Read after a short pass, so that what libraries take at their first use counts as in use.
        """
        device, gib = self._backend.device, self._plan.config.frontier.memory_gib
        context = min(WARMING_TOKENS, self._plan.config.workload.prompt_tokens or WARMING_TOKENS)
        self.attempt(Attempt(0, 1, max(context, self._new_tokens), None, 0.0))
        self._meter.reset()
        process_memory.reset_peak()
        wanted = None if gib is None else int(gib * GIB)
        if device.type == "cpu":
            rss_bytes = psutil.Process().memory_info().rss
            # Weights that are mapped from a file may not be resident yet.
            overhead = max(rss_bytes - (self._facts.weight_bytes or 0), self._backend.empty_rss_bytes)
            return Capacity(wanted or rss_bytes + int(HOST_SHARE * free_bytes(device)), overhead, of_process=True)
        if device.type != "cuda":
            raise DeviceUnavailable(f"frontier.axes: no limit of memory can be kept on {device.type}; use cpu or cuda")
        free, total = torch.cuda.mem_get_info(device)
        return Capacity(wanted or total, total - free - torch.cuda.memory_reserved(device), of_process=False)

    def attempt(self, attempt: Attempt) -> int | None:
        """See `Session.attempt`. Ids are counted up, never the same in two rows: what they say does not matter."""
        device = self._backend.device
        self._meter.reset()
        outside = self._limited(attempt.limit_bytes)
        process_memory.reset_peak()
        prompt = attempt.context - self._new_tokens + 1
        vocabulary = self._facts.vocab_size or 1
        ids = torch.arange(attempt.rows * prompt).view(attempt.rows, prompt).remainder_(vocabulary)
        positions = torch.arange(prompt + self._new_tokens).unsqueeze(0)
        batch = PromptBatch(0, ids.to(device), positions.to(device), None, (prompt,) * attempt.rows)
        decoder = self.decoder(attempt.arm)
        decoder.prepare(None)
        decoded = decoder.run(batch, self._new_tokens, Unobserved())
        decoded.new_ids.tolist()  # until here the device may still be at it
        return process_memory.peak_bytes() if outside is None else outside + torch.cuda.max_memory_allocated(device)

    def _limited(self, limit_bytes: int | None) -> int | None:
        """Hold torch's allocator to a limit; the device's bytes in use outside of it, None without such a device."""
        device = self._backend.device
        if device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(device)
        outside = total - free - torch.cuda.memory_reserved(device)
        share = 1.0 if limit_bytes is None else max(0.0, min(1.0, (limit_bytes - outside) / total))
        torch.cuda.set_per_process_memory_fraction(share, device)
        return int(outside)

    def traced(self, arm: int) -> TracedPass:
        """See `Session.traced`."""
        sequences: list[tuple[TracedToken, ...]] = []
        texts = TokenTexts(self._tokenizer)
        for batch in self.batches:
            decoder = self.decoder(arm, traced=True)
            decoder.prepare(None)
            decoded = decoder.run(batch, self._new_tokens, Unobserved(), self.stop_ids)
            assert decoded.trace is not None
            sequences += traced_sequences(self.new_ids(decoded), decoded.trace, texts)
        return TracedPass(arm, tuple(sequences))

    def agreement(self, candidate: int, passes: Sequence[UntimedPass]) -> AgreementFigures:
        """See `Session.agreement`."""
        figures = compare(self, candidate, passes[0].tokens, passes[candidate].tokens, self._extent)
        sampling = self._plan.config.sampling
        return replace(figures, sampled=not is_greedy(sampling), penalised=sampling.repetition_penalty != 1.0)

    def references(self, passes: Sequence[UntimedPass]) -> list[ReferenceFigures]:
        """See `Session.references`: one path for all arms, the one that shows the first divergence of any."""
        wanted = self._plan.config.check.reference
        if wanted == "none":
            return []
        found = [first_divergence(passes[0].tokens, each.tokens) for each in passes[1:]]
        earliest = min((each for each in found if each is not None), key=lambda each: each.step, default=None)
        number, path = common_path(self, passes[0].tokens, earliest, self._extent)
        device = preconditions.reference_device(wanted, self._facts, self._backend.device)
        wide = widened(self._model, DTYPES[wanted], device)
        try:
            return reference_distances(self, wide, range(len(passes)), number, path, self._interruptions)
        finally:
            del wide
            self._meter.reset()

    @property
    def _extent(self) -> int | None:
        """How many steps are compared; None for all."""
        if self._plan.config.check.agreement != "few":
            return None
        # The passes after an interruption are what an interrupted arm is about.
        return max(FEW_STEPS, *(step + 2 for step in self._interruptions.steps), 0)

    def _rows(self, batch: PromptBatch) -> list[list[int]]:
        return [list(self.prepared.prompts[index]["token_ids"]) for index in self.batch_members[batch.index]]

    def _reconciliation(self, storage_bytes: int | None) -> Reconciliation | None:
        if self._spread:
            self._meter.null_reasons["reconciliation"] = SPREAD
            return None
        return self._meter.reconcile(self._facts.weight_bytes, storage_bytes)

    def _batch(self, number: int, token_ids: Sequence[Sequence[int]], new_tokens: int) -> PromptBatch:
        room = self._interruptions.context(0, new_tokens)
        return make_batch(number, token_ids, room, self._backend.device)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _until_stop(self, row: list[int]) -> list[int]:
        end = next((index for index, token in enumerate(row) if token in self.stop_ids), len(row))
        return row[: end + 1]

    def shapes(self) -> Shapes:
        """See `Session.shapes`."""
        wanted = self._plan.config.shapes
        found: dict[str, Any] = {}
        prefills: dict[bool, dict[str, Any]] = {}
        for number, arm in enumerate(self._plan.arms):
            decoder = self.decoder(number)
            decoder.prepare(None)
            if wanted.attentions:  # no other implementation returns them; the next `prepare` puts it back
                self._model.set_attn_implementation("eager")
            with Returned(self._model, hidden_states=wanted.hidden_states, attentions=wanted.attentions) as returned:
                decoder.run(self.batches[0], 2, Unobserved())
            prefill, step = returned.passes
            prefills.setdefault(arm.keeps_past, prefill)
            found[arm.label if arm.label not in found else f"{arm.label} #{number + 1}"] = step
        # The one that leaves a cache behind says more.
        return Shapes({"prefill": prefills.get(True, prefills.get(False)), **found})

    def _cache_bytes(self, arm: int, batch: PromptBatch, decoded: Decoded) -> dict[str, int | None]:
        cache = decoded.cache
        passes = decoded.new_ids.shape[1]
        held = self._interruptions.context(batch.input_ids.shape[1], passes - 1)  # the newest was never submitted
        predicted = kv_cache_bytes(self._facts, len(batch.lengths), held) if self._plan.arms[arm].keeps_past else 0
        return {
            "kv_cache_bytes": 0 if cache is None else logical_bytes(cache),
            "kv_cache_predicted_bytes": predicted,
            "kv_cache_storage_bytes": 0 if cache is None else storage_bytes(cache),
        }

    def _memory_reasons(self, cache_bytes: dict[str, int | None]) -> dict[str, str]:
        reasons = dict(self._meter.null_reasons)
        if cache_bytes["kv_cache_predicted_bytes"] is None:
            unknown = "no formula for the cache of this architecture"
            reasons["kv_cache_predicted_bytes"] = self._facts.null_reasons.get("kv_bytes_per_token", unknown)
        return reasons

    def _memory_by_step(self, batch: PromptBatch, witness: Witness) -> tuple[MemoryAtStep, ...]:
        prompt = batch.input_ids.shape[1]
        return tuple(
            MemoryAtStep(self._interruptions.context(prompt, index), kv, allocated)
            for index, (kv, allocated) in enumerate(zip(witness.kv_bytes, witness.allocated, strict=True))
        )


def _prolonged(row: Sequence[int], length: int) -> list[int]:
    """A prompt repeated and cut to exactly so many tokens."""
    return [row[position % len(row)] for position in range(length)]
