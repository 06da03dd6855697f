"""What a script stands for: a model that only spends time and holds bytes, and the decoder that lets it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from kvbench.cache_sizes import cache_bytes
from kvbench.capabilities import habits_of
from kvbench.config.schema import ModelConfig
from kvbench.decoding.buckets import Buckets
from kvbench.decoding.chunks import WHOLE, Chunks
from kvbench.decoding.proof import passes_by_token, prove, together
from kvbench.decoding.protocol import Decoded, Observer, Pass, Unobserved
from kvbench.errors import KvbenchError, OutOfMemory
from kvbench.interruptions import NONE, Interruptions
from kvbench.measuring.agreement_figures import AgreementFigures
from kvbench.measuring.arm_memory import ArmMemory, MemoryAtStep
from kvbench.measuring.blocks import tokens_sha256
from kvbench.measuring.clocks import Clock, HostClock, ScriptedClock
from kvbench.measuring.environment import base_environment, neighbours
from kvbench.measuring.samples import Prepared, Shapes
from kvbench.measuring.scripted_device import ScriptedSensors
from kvbench.measuring.sensors import DeviceSensors, NullSensors
from kvbench.measuring.step_work import CountedFlops, StepWork
from kvbench.measuring.traced_pass import TracedPass
from kvbench.measuring.tries import Capacity
from kvbench.measuring.untimed_pass import Proof, UntimedPass
from kvbench.model_facts import ModelFacts, facts_from_config
from kvbench.plan import Arm, Attempt, Plan, made_length
from kvbench.records.host_checks import HostCheck

HANGING_S = 3600.0  # longer than anyone's limit
UNPINNED = ("auto", "sdpa")  # attentions that let the library choose, and build plans


@dataclass(frozen=True)
class ScriptedBatch:
    """Prompts of one batch as lists of ids."""

    index: int
    token_ids: tuple[tuple[int, ...], ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(map(len, self.token_ids))


class ScriptedModel:
    """The clock, the dice and the memory of one script."""

    def __init__(self, spec: ModelConfig) -> None:
        self.spec = spec
        self.dice = random.Random(spec.seed)  # noqa: S311 - noise, not a secret
        self.steps_taken = 0
        self.clock = ScriptedClock() if spec.virtual_time else HostClock()
        self.sensors: ScriptedSensors | None = None
        if spec.sensors != "none" and isinstance(self.clock, ScriptedClock):  # config.checks refuses another clock
            self.sensors = ScriptedSensors(spec.sensors, self.clock)
        self._seen: set[tuple[bool, int]] = set()  # lengths that a plan was built for, by mode

    def spend(self, seconds: float) -> None:
        """Let virtual time pass, or sleep."""
        if isinstance(self.clock, ScriptedClock):
            self.clock.spend(seconds)
        else:
            time.sleep(seconds)

    def enter(self, block: int | None) -> None:
        """Tell the scripted device which block is being measured."""
        if self.sensors is not None:
            self.sensors.enter(block)

    def plan_s(self, arm: Arm, attention: str, context: int) -> float:
        """Seconds of building a plan for a length, the first time that a mode meets it under an unpinned attention."""
        key = (arm.keeps_past, context)
        if attention not in UNPINNED or key in self._seen:
            return 0.0
        self._seen.add(key)
        return self.spec.unseen_length_s

    def computing_s(self, arm: Arm, keeps_past: bool, context: float) -> float:
        """Seconds that a decode step computes, by the script's law of the context."""
        spec = self.spec
        if keeps_past:
            return spec.cached_step_s + spec.per_token_s * context
        growing = (spec.per_token_s + spec.nocache_per_token_s) * context + spec.nocache_per_token2_s * context**2
        logits_s = spec.all_logits_s if "all_logits" in habits_of(arm.mode, arm.habit) else 0.0
        return spec.nocache_step_s + growing + logits_s

    def step(self, arm: Arm, keeps_past: bool, context: int, factor: float, extra_s: float) -> None:
        """Spend one decode step, or fail when the script says so."""
        self.steps_taken += 1
        if self.steps_taken == self.spec.fail_at_step:
            self._fail()
        seconds = (max(self.spec.launch_s, self.computing_s(arm, keeps_past, context)) + extra_s) * factor
        if self.spec.noise:
            seconds *= max(0.0, self.dice.gauss(1.0, self.spec.noise))
        self.spend(seconds)

    def hold(self, bytes_: int) -> None:
        """Take so many bytes at once, or fail when the scripted memory is smaller."""
        if self.spec.memory_bytes is not None and bytes_ > self.spec.memory_bytes:
            if self.spec.fail_with in ("crash", "hang"):
                self._fail()
            raise OutOfMemory(f"scripted out-of-memory: {bytes_:,} bytes of {self.spec.memory_bytes:,}")

    def _fail(self) -> None:
        if self.spec.fail_with == "crash":
            os._exit(70)  # as a segmentation fault would: no clean-up, no answer
        if self.spec.fail_with == "hang":
            time.sleep(HANGING_S)
        if self.spec.fail_with == "oom":
            raise OutOfMemory(f"scripted out-of-memory at step {self.steps_taken}")
        raise KvbenchError(f"scripted failure at step {self.steps_taken}")


class ScriptedDecoder:
    """Writes letters that depend on their position alone, so every mode writes the same.

    Tokens that go to a cache in `chunks` take no longer than in one pass.
    """

    def __init__(
        self,
        model: ScriptedModel,
        arm: Arm,
        interruptions: Interruptions = NONE,
        attention: str | None = None,
        chunks: Chunks = WHOLE,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """`prepare` is called before the first step of every run."""
        self._model = model
        self._prepare = prepare
        self._arm = arm
        self._attention = attention or arm.attention
        self._interruptions = interruptions
        self._chunks = chunks
        self._factor = 1.0

    def prepare(self, block: int | None) -> None:
        """Drift is relative to the first block."""
        self._factor = 1.0 + self._model.spec.drift * (block or 0)
        self._model.enter(block)

    def run(self, batch: ScriptedBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """See `Decoder.run`."""
        spec, rows = self._model.spec, len(batch.token_ids)
        loses_past = self._arm.mode == "interrupted"
        by_token = passes_by_token(
            new_tokens,
            batch.longest,
            self._arm.keeps_past,
            self._interruptions,
            loses_past=loses_past,
            chunks=self._chunks,
            buckets=Buckets(self._arm.bucket or 1),
        )
        ids: list[int] = []
        model, factor, on_token = self._model, self._factor, observer.on_token
        for index, passes in enumerate(by_token):
            (_, past_before, _), (submitted, past, _) = passes[0], passes[-1]
            context = submitted + (past or 0)
            if index == 0:
                model.spend(spec.prefill_s * factor)
            else:
                if index == 1:
                    self._prepare()
                extra_s = model.plan_s(self._arm, self._attention, context) if spec.unseen_length_s else 0.0
                model.step(self._arm, bool(past_before), context, factor, extra_s)
            letter = ord("a") + self._interruptions.context(batch.longest, index) % 26  # whatever pads the pass
            ids.append(letter)
            on_token(index, [letter] * rows)
            if letter in stop_ids:
                break
        made = tuple(chain.from_iterable(by_token[: len(ids)]))
        return Decoded([list(ids) for _ in range(rows)], made, None)


VOCABULARY = 256
NO_OPERATIONS = "the scripted model computes nothing"
NO_DEVICE = "the scripted model uses no device"
HOST = HostCheck(launch_s=4e-6, product_s=0.5e-3, read_s=2e-3)  # at its first check in a run


class ScriptedBackend(ScriptedModel):
    """A scripted model, ready for one plan after another."""

    def session(self, plan: Plan) -> ScriptedSession:
        """See `Backend.session`."""
        return ScriptedSession(self, plan)

    def put_back(self, *, shared: bool = False) -> None:
        """See `Backend.put_back`: a script is read anew for every run."""


class ScriptedSession:
    """One plan on the scripted model; see `Session`."""

    def __init__(self, backend: ScriptedModel, plan: Plan) -> None:
        self._backend = backend
        self._plan = plan
        self.clock: Clock = backend.clock
        rule = plan.stop_rule
        self.stop_ids = tuple(map(int, rule)) if isinstance(rule, tuple) else ()
        prompts = _prompts(plan)
        size = plan.config.workload.batch_size
        indices = tuple(tuple(range(start, min(start + size, len(prompts)))) for start in range(0, len(prompts), size))
        self.batches = tuple(
            ScriptedBatch(number, tuple(tuple(prompts[index]["token_ids"]) for index in members))
            for number, members in enumerate(indices)
        )
        self.sensors: DeviceSensors = backend.sensors or NullSensors(NO_DEVICE)
        self._unseen = 0
        self._host_checks = 0
        self._prepared_s: dict[int, float] = {}  # by arm
        self._facts = _facts(plan)
        message = plan.config.interrupt.message or ""
        self._interruptions = Interruptions(plan.interrupt_steps, tuple(message.encode()))
        self._chunks = Chunks(plan.config.workload.prefill_chunk)
        self.prepared = Prepared(
            model=asdict(self._facts),
            environment={
                **environment_of_script(),
                **self.sensors.facts(),
                **neighbours(self.sensors),
            },
            prompts=tuple(prompts),
            batches=indices,
            load_s=0.0,
            interruptions=self._interruptions,
        )

    def decoder(self, arm: int, *, traced: bool = False, attention: str | None = None) -> ScriptedDecoder:  # noqa: ARG002 - a trace is refused before it
        """See `Session.decoder`."""
        return ScriptedDecoder(
            self._backend,
            self._plan.arms[arm],
            self._interruptions,
            attention,
            self._chunks,
            lambda: self._prepare(arm),
        )

    def _prepare(self, arm: int) -> None:
        """Let an engine prepare, the first time that its arm takes a step."""
        if self._plan.arms[arm].repeats and arm not in self._prepared_s:
            self._prepared_s[arm] = self._backend.spec.prepare_s
            self._backend.spend(self._prepared_s[arm])

    def prepared_s(self, arm: int) -> float | None:
        """See `Session.prepared_s`."""
        return self._prepared_s.get(arm, 0.0) if self._plan.arms[arm].repeats else None

    def new_ids(self, decoded: Decoded) -> list[list[int]]:
        """See `Session.new_ids`."""
        ids: list[list[int]] = decoded.new_ids
        return ids

    def proof(self, arm: int, batch: ScriptedBatch, passes: Sequence[Pass]) -> Proof:
        """See `Session.proof`."""
        spec, loses_past = self._plan.arms[arm], self._plan.arms[arm].mode == "interrupted"
        return prove(
            passes,
            batch.longest,
            spec.keeps_past,
            self._interruptions,
            loses_past=loses_past,
            chunks=self._chunks,
            buckets=Buckets(spec.bucket or 1),
        )

    def context_of(self, batch: ScriptedBatch) -> int:
        """See `Session.context_of`."""
        return batch.longest

    def fresh_batch(self, batch: ScriptedBatch, seed: int) -> ScriptedBatch:
        """See `Session.fresh_batch`."""
        dice = random.Random(seed)  # noqa: S311 - an order, not a secret
        return ScriptedBatch(batch.index, tuple(tuple(dice.sample(row, len(row))) for row in batch.token_ids))

    def unseen_batch(self, arm: int, steps: int) -> ScriptedBatch | None:  # noqa: ARG002 - the protocol's shape
        """See `Session.unseen_batch`."""
        if self._interruptions.steps:
            return None
        self._unseen += steps + 2
        seen = max(batch.longest for batch in self.batches)
        length = self._interruptions.context(seen, self._plan.config.workload.new_tokens) + self._unseen - steps
        return ScriptedBatch(0, ((ord("a"),) * length,) * len(self.batches[0].token_ids))

    def decode_batch(self, new_tokens: int) -> tuple[ScriptedBatch, int]:
        """See `Session.decode_batch`; a script has no longest context."""
        return self.batches[0], new_tokens

    def other_attentions(self, arm: int) -> tuple[str, ...]:
        """See `Session.other_attentions`."""
        return ("math",) if self._plan.arms[arm].attention in UNPINNED else ()

    def device_state(self) -> tuple[None, None]:
        """See `Session.device_state`."""
        return None, None

    def host_check(self) -> HostCheck:
        """See `Session.host_check`: each check takes so much longer than the one before as the script says."""
        factor = (1.0 + self._backend.spec.host_drift) ** self._host_checks
        self._host_checks += 1
        return HostCheck(**{name: seconds * factor for name, seconds in HOST.model_dump().items()})

    def step_work(self, arm: int) -> StepWork:
        """See `Session.step_work`: the script's own times, over all steps of all batches."""
        steps = range(1, self._plan.config.workload.new_tokens)
        contexts = [self._interruptions.context(batch.longest, index) for batch in self.batches for index in steps]
        spec, kernel = self._plan.arms[arm], self._plan.config.model.kernel
        submitted = map(Buckets(spec.bucket or 1).padded, contexts)
        busy_s = sum(self._backend.computing_s(spec, spec.keeps_past, each) for each in submitted) / len(contexts)
        return StepWork(arm, None, busy_s, NO_OPERATIONS, ((kernel, 1.0),) if kernel else ())

    def counted_flops(self) -> CountedFlops:
        """See `Session.counted_flops`."""
        return CountedFlops(len(self.batches[0].token_ids), self.batches[0].longest, None, NO_OPERATIONS)

    def show_text(self, say: Callable[[str, str], None]) -> None:
        """See `Session.show_text`; the letters cost no time when nobody times them."""
        new_tokens = self._plan.config.workload.new_tokens
        for prompt in self.prepared.prompts[:1]:
            say("prompt", prompt["text"])
            start = len(prompt["token_ids"])
            say("piece", "".join(chr(ord("a") + (start + index) % 26) for index in range(new_tokens)))
            say("end", "")

    def untimed(self, arm: int) -> UntimedPass:
        """See `Session.untimed`."""
        decoder = self.decoder(arm)
        decoder.prepare(None)
        runs = [
            decoder.run(batch, self._plan.config.workload.new_tokens, Unobserved(), self.stop_ids)
            for batch in self.batches
        ]
        tokens = [ids for run in runs for ids in run.new_ids]
        proofs = [self.proof(arm, batch, run.passes) for batch, run in zip(self.batches, runs, strict=True)]
        return UntimedPass(
            arm=arm,
            tokens=tuple(map(tuple, tokens)),
            texts=tuple("".join(map(chr, ids)) for ids in tokens),
            finish_reasons=tuple("stop" if ids[-1] in self.stop_ids else "length" for ids in tokens),
            tokens_sha256=tuple(tokens_sha256(run.new_ids) for run in runs),
            memory=self._memory(arm),
            memory_by_step=self._memory_by_step(arm),
            proof=together(proofs),
        )

    def traced(self, arm: int) -> TracedPass:  # noqa: ARG002 - the protocol's shape
        """A script has no probabilities; the configuration's check refuses to ask for them."""
        raise AssertionError("config.checks refuses a trace of the scripted model")

    def capacity(self) -> Capacity:
        """See `Session.capacity`: the script's own, which nothing else uses."""
        gib = self._plan.config.frontier.memory_gib
        return Capacity(self._backend.spec.memory_bytes if gib is None else int(gib * 2**30), 0, of_process=False)

    def attempt(self, attempt: Attempt) -> int:
        """See `Session.attempt`: weights, cache, and what the largest pass takes."""
        arm, backend = self._plan.arms[attempt.arm], self._backend
        prompt = attempt.context - self._plan.config.workload.new_tokens + 1
        submitted = min(prompt, self._chunks.size or prompt) if arm.keeps_past else attempt.context
        working = backend.spec.step_bytes_per_token * attempt.rows * submitted
        cache = self._kv_bytes(attempt.arm, attempt.context, attempt.rows)
        needed = (self._facts.weight_bytes or 0) + cache + working
        backend.hold(needed)
        return needed

    def shapes(self) -> Shapes:
        """No tensors, no shapes."""
        return Shapes({})

    def agreement(self, candidate: int, passes: Sequence[UntimedPass]) -> AgreementFigures:
        """Both arms read from one script, so their figures are equal by construction."""
        steps = min(len(ids) for ids in passes[0].tokens)
        return AgreementFigures(candidate, steps, 0.0, 0.0, 0.0, 0, 0.0, 0.0, None, None, None)

    def references(self, passes: Sequence[UntimedPass]) -> tuple[()]:  # noqa: ARG002 - the protocol's shape
        """No logits, no distances; the configuration's check refuses to ask for them."""
        return ()

    def _kv_bytes(self, arm: int, tokens: int, rows: int) -> int:
        spec = self._plan.arms[arm]
        if not spec.keeps_past:
            return 0
        longest = self._interruptions.context(
            max(batch.longest for batch in self.batches), self._plan.config.workload.new_tokens
        )
        length = made_length(spec, max(longest, tokens)) if spec.is_static else None
        # A script has neither windows nor what is quantised, which the configuration's check refuses.
        return cache_bytes(self._facts, spec.cache, rows, tokens, prompt=tokens, length=length) or 0

    def _memory(self, arm: int) -> ArmMemory:
        batch = max(self.batches, key=lambda each: each.longest * len(each.token_ids))
        held = self._interruptions.context(batch.longest, self._plan.config.workload.new_tokens - 1)
        kv = self._kv_bytes(arm, held, len(batch.token_ids))
        fields = (
            "weights_bytes",
            "peak_allocated_bytes",
            "peak_reserved_bytes",
            "device_used_bytes",
            "process_rss_bytes",
            "reconciliation",
        )
        return ArmMemory(None, kv, kv, kv, None, None, None, None, null_reasons=dict.fromkeys(fields, NO_DEVICE))

    def _memory_by_step(self, arm: int) -> tuple[MemoryAtStep, ...]:
        batch = self.batches[0]
        passes = range(self._plan.config.workload.new_tokens)
        contexts = [self._interruptions.context(batch.longest, index) for index in passes]
        return tuple(
            MemoryAtStep(context, self._kv_bytes(arm, context, len(batch.token_ids)), None) for context in contexts
        )


def environment_of_script() -> dict[str, Any]:
    """The machine, without a device."""
    return {**base_environment(), "device": "scripted", "device_name": "scripted"}


def _prompts(plan: Plan) -> list[dict[str, Any]]:
    """Bytes stand for tokens."""
    wanted = plan.prompts
    texts = [text.encode() for text in wanted.texts]
    if wanted.lengths:
        repeated = texts[0] * (max(wanted.lengths) // len(texts[0]) + 1)
        texts = [repeated[:length] for length in wanted.lengths for _ in range(wanted.copies)]
    return [{"text": text.decode(errors="replace"), "token_ids": list(text)} for text in texts]


def _facts(plan: Plan) -> ModelFacts:
    """One layer with one head of one half-precision number (4 bytes of cache a token), and the script's weights."""
    shape = {
        "model_type": "scripted",
        "num_hidden_layers": 1,
        "hidden_size": 1,
        "num_attention_heads": 1,
        "vocab_size": VOCABULARY,
    }
    count = plan.config.model.parameters
    nothing = {"parameters": 0, "bytes": 0}
    parts = {name: dict(nothing) for name in ("linear", "experts", "head", "embedding", "other")}
    return facts_from_config(
        shape,
        name=plan.config.model.name,
        source="scripted",
        dtype="float16",
        parameters=count,
        weight_bytes=None if count is None else 2 * count,
        weight_parts=None if count is None else {**parts, "linear": {"parameters": count, "bytes": 2 * count}},
    )
