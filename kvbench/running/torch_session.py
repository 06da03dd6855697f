"""The real thing: a transformers model on a device, prepared for one plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial

from kvbench.capabilities import MODES, QUANTIZATIONS, takes_masks
from kvbench.decoding.buckets import Buckets
from kvbench.decoding.chunks import Chunks
from kvbench.decoding.own_witness import witness_of
from kvbench.decoding.proof import Promise, passes_by_token, prove, together
from kvbench.decoding.protocol import Decoded, Decoder, Pass, PromptBatch, Unobserved
from kvbench.decoding.sampling import Forced
from kvbench.interruptions import Interruptions
from kvbench.measuring.agreement_figures import AgreementFigures, ReferenceFigures
from kvbench.measuring.blocks import tokens_sha256
from kvbench.measuring.clocks import Clock, DeviceClock, HostClock
from kvbench.measuring.environment import torch_environment
from kvbench.measuring.host_probes import check_host
from kvbench.measuring.memory import MemoryMeter
from kvbench.measuring.samples import Prepared, Shapes
from kvbench.measuring.sensors import DeviceSensors, NullSensors
from kvbench.measuring.step_work import CountedFlops, StepWork
from kvbench.measuring.traced_pass import TracedPass, TracedToken
from kvbench.measuring.tries import Capacity
from kvbench.measuring.untimed_pass import Proof, UntimedPass
from kvbench.models.no_tokenizer import NoTokenizer
from kvbench.plan import Attempt, Plan
from kvbench.records.host_checks import HostCheck
from kvbench.running import arm_agreement, preconditions
from kvbench.running.arm_decoders import ArmDecoders
from kvbench.running.model_on_device import ModelOnDevice
from kvbench.running.pass_memory import PassMemory
from kvbench.running.prompt_batches import PromptBatches, message_ids, tokenise
from kvbench.running.shapes import arm_shapes
from kvbench.running.size_attempts import SizeAttempts
from kvbench.running.step_work import counted_flops, step_work
from kvbench.running.token_texts import TokenTexts, show_text, traced_sequences

SPREAD = "the model is spread over several devices, and one device's sensors would tell a part"
COMPILED_AWAY = "a compiler has put its operations together, and nothing counts them on a CPU"
OWN_FLOPS = "not counted: there is no prediction for a model of one's own to hold the count against"


class TorchSession:
    """One plan on a loaded model; see `Session`."""

    def __init__(self, backend: ModelOnDevice, plan: Plan) -> None:
        self._backend = backend
        self._plan = plan
        self._model = backend.loaded.model
        self._tokenizer = backend.loaded.tokenizer
        self._facts = backend.loaded.facts
        self._new_tokens = plan.config.workload.new_tokens
        self._meter = MemoryMeter(backend.device, backend.sensors, backend.empty)
        self.clock: Clock = HostClock() if backend.device.type == "cpu" else DeviceClock(backend.device)
        preconditions.require_arms(plan.arms, backend.forward, backend.device)
        if not backend.is_own:
            preconditions.require_caches(plan.arms, self._model, self._facts)
        preconditions.require_reference(plan.config.check.reference, self._model, self._facts, backend.device)
        pad_id = preconditions.pad_id_of(self._tokenizer)
        self.stop_ids = preconditions.stop_ids_of(plan, self._model, self._tokenizer, self._facts.vocab_size)
        prompts = tokenise(plan, self._tokenizer)
        self._interruptions = Interruptions(plan.interrupt_steps, message_ids(plan, self._tokenizer))
        token_ids = [prompt["token_ids"] for prompt in prompts]
        if plan.prompts.token_ids:
            preconditions.require_ids(token_ids, self._facts.vocab_size)
        preconditions.require_context(list(map(len, token_ids)), self._new_tokens, self._facts, self._interruptions)
        preconditions.require_static_room(
            plan.arms, list(map(len, token_ids)), self._new_tokens, self._interruptions, self._model, self._facts
        )
        self._prompts = PromptBatches(
            token_ids,
            plan.config.workload.batch_size,
            self._new_tokens,
            self._interruptions,
            self._facts.max_context,
            backend.device,
        )
        self.batches = self._prompts.all
        self.batch_members = self._prompts.members
        preconditions.require_masks(
            plan.arms,
            self.batches,
            self._model,
            backend.device,
            chunk=plan.config.workload.prefill_chunk,
            inserts=bool(self._interruptions.message_ids),
        )
        if plan.config.frontier.axes is None:  # else what fits is found out, not refused
            preconditions.require_cache_memory(plan.arms, self.batches, self._facts, backend.device)
        self._decoders = ArmDecoders(backend, plan, self._interruptions, pad_id)
        unaccountable = SPREAD if backend.is_spread else None
        self._memory = PassMemory(self._meter, self._facts, self._interruptions, unaccountable, backend.device)
        self._attempts = SizeAttempts(backend, plan, self._meter, self._decoders.plain)
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
        return NullSensors(SPREAD) if self._backend.is_spread else self._backend.sensors

    @property
    def takes_masks(self) -> bool:
        """Whether the first arm's attention can leave padding out; a model of one's own is handed no mask."""
        return not self._backend.is_own and takes_masks(self._plan.arms[0].attention, self._backend.device.type)

    def second_attention(self, batch: PromptBatch) -> str | None:
        """See `Reorderable.second_attention`."""
        own, first, heads = self._backend.own_attention, self._plan.arms[0].attention, self._facts.attention_heads or 0
        return preconditions.second_attention(own, first, heads, batch, self._backend.device)

    @property
    def dtype(self) -> str:
        """The type whose rounding shows in the logits."""
        arithmetic = QUANTIZATIONS[self._plan.config.model.quantization].arithmetic
        return arithmetic or str(self._model.dtype).removeprefix("torch.")

    def decoder(
        self, arm: int, forced: Forced | None = None, *, traced: bool = False, attention: str | None = None
    ) -> Decoder:
        """See `Session.decoder`; `forced` follows a given path instead of sampling."""
        return self._decoders.traced(arm, forced) if traced else self._decoders.plain(arm, forced, attention)

    def unprepared(
        self, arm: int, forced: Forced | None = None, *, attention: str | None = None, exact: bool = False
    ) -> Decoder:
        """See `Comparable.unprepared`."""
        return self._decoders.unprepared(arm, forced, attention, exact=exact)

    def round_trip(self, arm: int, forced: Forced) -> tuple[Decoder, Callable[[Decoded], float]] | None:
        """See `Comparable.round_trip`."""
        return self._decoders.round_trip(arm, forced)

    @property
    def inserts(self) -> bool:
        """See `Comparable.inserts`."""
        return bool(self._interruptions.message_ids)

    def cache_of(self, arm: int) -> str:
        """See `Comparable.cache_of`."""
        return self._plan.arms[arm].cache

    def prepared_s(self, arm: int) -> float | None:
        """See `Session.prepared_s`."""
        return self._decoders.prepared_s(arm)

    def new_ids(self, decoded: Decoded) -> list[list[int]]:
        """See `Session.new_ids`."""
        return [self._until_stop(row) for row in decoded.new_ids.tolist()]

    def _until_stop(self, row: list[int]) -> list[int]:
        end = next((index for index, token in enumerate(row) if token in self.stop_ids), len(row))
        return row[: end + 1]

    def proof(self, arm: int, batch: PromptBatch, passes: Sequence[Pass]) -> Proof:
        """See `Session.proof`."""
        spec, prompt = self._plan.arms[arm], self.context_of(batch)
        return prove(passes, prompt, spec.keeps_past, self._interruptions, **self._promise(arm))

    def _promise(self, arm: int) -> Promise:
        spec = self._plan.arms[arm]
        return {
            "loses_past": spec.mode == "interrupted",
            "buckets": Buckets(spec.bucket or 1, self._facts.max_context),
            "chunks": Chunks(self._plan.config.workload.prefill_chunk),
        }

    def context_of(self, batch: PromptBatch) -> int:
        """See `Session.context_of`."""
        return int(batch.input_ids.shape[1])

    def fresh_batch(self, batch: PromptBatch, seed: int) -> PromptBatch:
        """See `Session.fresh_batch`."""
        return self._prompts.fresh(batch, seed)

    def unseen_batch(self, arm: int, steps: int) -> PromptBatch | None:
        """See `Session.unseen_batch`."""
        spec = self._plan.arms[arm]
        if not MODES[spec.mode].ours or self._interruptions.steps or spec.repeats or spec.cache_tokens is not None:
            return None  # of a cache of a given length no room is left
        return self._prompts.unseen(steps)

    def decode_batch(self, new_tokens: int) -> tuple[PromptBatch, int]:
        """See `Session.decode_batch`."""
        return self._prompts.with_room(new_tokens)

    def other_attentions(self, arm: int) -> tuple[str, ...]:
        """See `Session.other_attentions`."""
        if self._backend.is_own or self._plan.arms[arm].repeats:
            return ()

        def decode(attention: str) -> None:
            decoder = self.decoder(arm, attention=attention)
            decoder.prepare(None)
            decoder.run(self.batches[0], 2, Unobserved())

        masked = self.batches[0].mask is not None or getattr(self._model.config, "separates_documents", False)
        own, device_type = self._plan.arms[arm].attention, self._backend.device.type
        return preconditions.other_attentions(own, device_type, masked=masked, decode=decode)

    def device_state(self) -> tuple[int | None, int | None]:
        """See `Session.device_state`."""
        return self._meter.device_allocations(), self._meter.outside_bytes()

    def host_check(self) -> HostCheck:
        """See `Session.host_check`."""
        return check_host(self._backend.device)

    def step_work(self, arm: int) -> StepWork:
        """See `Session.step_work`: a few steps in the middle of the run, whose contexts are those of the mean step."""
        if self._plan.arms[arm].repeats and self._backend.device.type != "cuda":
            return StepWork(arm, None, None, COMPILED_AWAY)
        batches, steps = self._prompts.around_the_mean_step()
        return step_work(arm, lambda: self.decoder(arm), batches, steps, self.clock)

    def counted_flops(self) -> CountedFlops:
        """See `Session.counted_flops`."""
        if self._backend.is_own:
            rows, tokens = self.batches[0].input_ids.shape
            return CountedFlops(rows, tokens, None, OWN_FLOPS)
        return counted_flops(self._backend.forward, self.batches[0])

    def show_text(self, say: Callable[[str, str], None]) -> None:
        """See `Session.show_text`. Stops at the tokenizer's end, whatever the timed runs do: it is for reading."""
        stop_ids = self.stop_ids or preconditions.end_ids(self._model, self._tokenizer)

        def batch_of(token_ids: Sequence[int], new_tokens: int) -> PromptBatch:
            return self._prompts.batch(0, [token_ids], new_tokens)

        show_text(self._plan, self.prepared.prompts, batch_of, self.unprepared, self._backend.text, stop_ids, say)

    def untimed(self, arm: int) -> UntimedPass:
        """See `Session.untimed`."""
        self._decoders.release_others(arm)
        if self._plan.arms[arm].repeats:  # a compiler's memory is not that of a pass
            for batch in self.batches:
                decoder = self.decoder(arm)
                decoder.prepare(None)
                run = partial(decoder.run, batch, self._new_tokens, Unobserved(), self.stop_ids)
                self._decoders.rehearse(arm, run)
        self._meter.reset(self._decoders.replayed_bytes(arm))
        largest = self._prompts.largest
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
                keeps_past, prompt = self._plan.arms[arm].keeps_past, self.context_of(batch)
                promised = passes_by_token(
                    decoded.new_ids.shape[1], prompt, keeps_past, self._interruptions, **self._promise(arm)
                )
                held = self._memory.held(batch, decoded, witness, promised, self._plan.arms[arm])
            del decoded  # its cache must not be counted for the next batch
        return UntimedPass(
            arm=arm,
            tokens=tuple(map(tuple, tokens)),
            texts=() if isinstance(self._tokenizer, NoTokenizer) else tuple(map(self._backend.text, tokens)),
            finish_reasons=tuple("stop" if ids[-1] in self.stop_ids else "length" for ids in tokens),
            tokens_sha256=tuple(digests),
            memory=self._memory.of_pass(held),
            memory_by_step=held.by_step,
            proof=together(proofs),
        )

    def capacity(self) -> Capacity:
        """See `Session.capacity`."""
        return self._attempts.capacity()

    def attempt(self, attempt: Attempt) -> int | None:
        """See `Session.attempt`."""
        return self._attempts.attempt(attempt)

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
        return arm_agreement.agreement(self, self._plan, self._interruptions, candidate, passes)

    def references(self, passes: Sequence[UntimedPass]) -> list[ReferenceFigures]:
        """See `Session.references`."""
        return arm_agreement.references(self, self._plan, self._interruptions, self._backend, self._meter, passes)

    def shapes(self) -> Shapes:
        """See `Session.shapes`."""
        return arm_shapes(self._plan, self._model, self.decoder, self.batches[0])
