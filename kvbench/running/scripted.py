"""A model that only spends time: the whole program runs on it with exact expected numbers and without torch."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any

from kvbench.arm import Arm
from kvbench.capabilities import habits_of
from kvbench.config.schema import ModelConfig
from kvbench.decoding.protocol import Decoded, Observer, Pass, Unobserved
from kvbench.errors import KvbenchError, OutOfMemory
from kvbench.measuring.clocks import Clock, HostClock, ScriptedClock
from kvbench.measuring.environment import base_environment, neighbours
from kvbench.measuring.scripted_device import ScriptedSensors
from kvbench.measuring.sensors import DeviceSensors, NullSensors
from kvbench.model_costs import cache_bytes
from kvbench.model_facts import ModelFacts, facts_from_config
from kvbench.passes import (
    Buckets,
    CheckedProposals,
    Chunks,
    Interruptions,
    common_beginning,
    draft_round,
    passes_by_token,
    together,
)
from kvbench.plan import Attempt, Plan, most_proposed
from kvbench.records.agreement_figures import AgreementFigures
from kvbench.records.evidence import HostCheck
from kvbench.records.proposals import Proposals, proposals_of
from kvbench.records.rescoring import RescoreSamples, ScoredSequence, Scores, WayTried
from kvbench.records.samples import Prepared, Shapes
from kvbench.records.scaling import Capacity
from kvbench.records.timings import tokens_sha256
from kvbench.records.untimed import (
    CountedFlops,
    KernelShare,
    Memory,
    MemoryPoint,
    Proof,
    RankFigures,
    StepWork,
    UntimedPass,
)
from kvbench.running.leases import SCRIPTED_DEVICE, Place, scripted_lease
from kvbench.running.prompt_batches import PromptBatches
from kvbench.running.sessions import Untimed
from kvbench.running.shared_prefix import shared_prefix
from kvbench.running.team import ALONE, OfOneScript, RankPlace, Team
from kvbench.running.visits import proof_of

HANGING_S = 3600.0  # longer than anyone's limit
VOCABULARY = 256
NO_OPERATIONS = "the scripted model computes nothing"
NO_DEVICE = "the scripted model uses no device"
HOST = HostCheck(launch_s=4e-6, product_s=0.5e-3, read_s=2e-3)  # at its first check in a run
LOG_PROBABILITY = -1.0  # of every token, by one pass
LARGEST_LOGIT = 100.0
ORDER = WayTried("sums from the other end", by_product=True)
RANK_BYTES = (
    "weights_bytes",
    "kv_cache_bytes",
    "kv_cache_predicted_bytes",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "device_used_bytes",
    "process_rss_bytes",
)
UNPINNED = ("auto", "sdpa")  # attentions that let the library choose, and build plans


@dataclass(frozen=True)
class ScriptedBatch:
    """Prompts of one batch as lists of ids."""

    index: int
    token_ids: Sequence[Sequence[int]]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(map(len, self.token_ids))

    @property
    def shared(self) -> int:
        """Tokens that all prompts begin with, short of a whole one."""
        return common_beginning(self.token_ids)


class ScriptedBackend:
    """The clock, the dice and the memory of one script, ready for one plan after another."""

    def __init__(self, spec: ModelConfig, place: RankPlace | None = None) -> None:
        self.spec = spec
        self.team: Team = ALONE if place is None else OfOneScript(place.rank, place.size)
        self.dice = random.Random(spec.seed)  # noqa: S311 - noise, not a secret
        self.steps_taken = 0
        self.clock = ScriptedClock() if spec.virtual_time else HostClock()
        self.sensors: ScriptedSensors | None = None
        if spec.sensors != "none" and isinstance(self.clock, ScriptedClock):  # config.rules refuses another clock
            self.sensors = ScriptedSensors(spec.sensors, self.clock)
        self._seen: set[tuple[bool, int]] = set()  # lengths that a plan was built for, by mode

    def session(self, plan: Plan) -> ScriptedSession:
        """One plan on this script."""
        return ScriptedSession(self, plan)

    def put_back(self, *, shared: bool = False) -> None:
        """Nothing stays behind: a script is read anew for every run."""

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
        exchanging_s = spec.communication_s if self.team.size > 1 else 0.0
        if keeps_past:
            return spec.cached_step_s + spec.per_token_s * context + exchanging_s
        growing = (spec.per_token_s + spec.nocache_per_token_s) * context + spec.nocache_per_token2_s * context**2
        logits_s = spec.all_logits_s if "all_logits" in habits_of(arm.mode, arm.habit) else 0.0
        return spec.nocache_step_s + growing + logits_s + exchanging_s

    def step(self, arm: Arm, keeps_past: bool, context: int, factor: float, extra_s: float) -> None:
        """Spend one decode step, or fail when the script says so."""
        self.steps_taken += 1
        if self.steps_taken == self.spec.fail_at_step and self.team.rank == self.spec.fail_on_rank:
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


class ScriptedProposals:
    """Writes the same letters in passes that check proposed tokens, of which the script accepts as many as it says."""

    def __init__(self, model: ScriptedBackend, plan: Plan, arm: Arm) -> None:
        self._model = model
        self._arm = arm
        fixed = most_proposed(plan, arm.mode)
        self._adapts = fixed is None  # as `generate` does under the schedule heuristic_transient
        self._most = plan.config.assisted.num_assistant_tokens if fixed is None else fixed
        self._draft_s = model.spec.draft_step_s if arm.mode == "assisted" else 0.0
        self._factor = 1.0

    def prepare(self, block: int | None) -> None:
        """Drift is relative to the first block."""
        self._factor = 1.0 + self._model.spec.drift * (block or 0)
        self._model.enter(block)

    def run(self, batch: ScriptedBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """One pass after another, each after the time of the draft, of a step, and of what it checks."""
        spec, prompt = self._model.spec, batch.longest
        ids: list[int] = []
        passes: list[Pass] = []
        made: list[int] = []
        most = self._most
        while len(ids) < new_tokens and not (ids and ids[-1] in stop_ids):
            length, past = prompt + len(ids), prompt + len(ids) - 1 if ids else 0
            proposed = min(most, new_tokens - len(ids) - 1)
            accepted = proposed
            if spec.accepted:
                accepted = min(proposed, spec.accepted[len(made) % len(spec.accepted)])
            if self._adapts:
                most = most + 2 if accepted == proposed else max(1, most - 1)
            submitted = length - past + proposed
            further_s = proposed * (self._draft_s + spec.checked_token_s)
            if not ids:
                self._model.spend((spec.prefill_s + further_s) * self._factor)
            else:
                self._model.step(self._arm, keeps_past=True, context=length, factor=self._factor, extra_s=further_s)
            letters = [ord("a") + (length + place) % 26 for place in range(accepted + 1)]
            end = next((place for place, letter in enumerate(letters, start=1) if letter in stop_ids), len(letters))
            ids += letters[:end]
            passes.append(Pass(submitted, past, past + submitted))
            made.append(end)
            observer.on_token(len(ids) - 1, ids[-1:])
        return Decoded([ids], tuple(passes), None, made=tuple(made))


class ScriptedDecoder:
    """Writes letters that depend on their position alone, so every mode writes the same.

    Tokens that go to a cache in `chunks` take no longer than in one pass.
    """

    def __init__(
        self,
        model: ScriptedBackend,
        arm: Arm,
        interruptions: Interruptions,
        attention: str | None,
        chunks: Chunks,
        prepare: Callable[[], None],
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
        """One letter after another, each after the time that the script has for its pass."""
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
            shared=self._shared(batch),
        )
        ids: list[int] = []
        model, factor, on_token = self._model, self._factor, observer.on_token
        for index, passes in enumerate(by_token):
            (_, past_before, _), (submitted, past, _) = passes[0], passes[-1]
            context = submitted + (past or 0)
            if index == 0:
                model.spend(spec.prefill_s * factor * self._prefill_share(batch))
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

    def _shared(self, batch: ScriptedBatch) -> int:
        return batch.shared if self._arm.mode == "prefix" else 0

    def _prefill_share(self, batch: ScriptedBatch) -> float:
        """Of the prompts' tokens those that are submitted: what is shared once, and the rest for every sequence."""
        rows, shared = len(batch.token_ids), self._shared(batch)
        return 1.0 - (rows - 1) * shared / (rows * batch.longest)


class ScriptedDecoders:
    """Makes the decoders of one run, and remembers what its engines have prepared."""

    def __init__(self, model: ScriptedBackend, plan: Plan, interruptions: Interruptions) -> None:
        self._model = model
        self._plan = plan
        self._interruptions = interruptions
        self._prepared_s: dict[int, float] = {}  # by arm

    def plain(self, arm: int, *, attention: str | None = None) -> ScriptedDecoder | ScriptedProposals:
        """The decoder of an arm; `attention` takes the place of the arm's own."""
        if self._plan.arms[arm].proposes:
            return ScriptedProposals(self._model, self._plan, self._plan.arms[arm])
        chunks = Chunks(self._plan.config.workload.prefill_chunk)
        prepare = partial(self._prepare, arm)
        return ScriptedDecoder(self._model, self._plan.arms[arm], self._interruptions, attention, chunks, prepare)

    def traced(self, arm: int) -> ScriptedDecoder:  # noqa: ARG002 - the protocol's shape
        """A script has no probabilities; the configuration's check refuses to ask for them."""
        raise AssertionError("config.rules refuses a trace of the scripted model")

    def prepared_s(self, arm: int) -> float | None:
        """Seconds of preparing so far; None for an arm that prepares nothing."""
        return self._prepared_s.get(arm, 0.0) if self._plan.arms[arm].repeats else None

    def _prepare(self, arm: int) -> None:
        """Let an engine prepare, the first time that its arm takes a step."""
        if self._plan.arms[arm].repeats and arm not in self._prepared_s:
            self._prepared_s[arm] = self._model.spec.prepare_s
            self._model.spend(self._prepared_s[arm])


class ScriptedSession:
    """A `Session` on the scripted model."""

    def __init__(self, model: ScriptedBackend, plan: Plan) -> None:
        self.plan = plan
        self.model = model
        self.untimed = UNTIMED
        self.team = model.team
        self.clock: Clock = model.clock
        self.sensors: DeviceSensors = model.sensors or NullSensors(NO_DEVICE)
        self.facts = _facts(plan)
        self.host_checks = 0  # so far
        rule = plan.stop_rule
        self.stop_ids = tuple(map(int, rule)) if isinstance(rule, tuple) else ()
        prompts = _prompts(plan)
        interruptions = Interruptions(plan.interrupt_steps, tuple((plan.config.interrupt.message or "").encode()))
        self.batches = PromptBatches(
            [prompt["token_ids"] for prompt in prompts],
            plan.config.workload.batch_size,
            plan.config.workload.new_tokens,
            interruptions,
            self.facts.max_context,
            lambda index, token_ids, _room: ScriptedBatch(index, token_ids),
        )
        self.decoders = ScriptedDecoders(model, plan, interruptions)
        self.prepared = Prepared(
            model={**asdict(self.facts), "ranks": self.team.size},
            environment={**environment_of_script(), **self.sensors.facts(), **neighbours(self.sensors)},
            prompts=tuple(prompts),
            batches=self.batches.members,
            load_s=0.0,
            interruptions=interruptions,
        )


def _show_text(session: ScriptedSession, say: Callable[[str, str], None]) -> None:
    """The letters of one prompt cost no time when nobody times them."""
    for prompt in session.prepared.prompts[:1]:
        say("prompt", prompt["text"])
        start, new_tokens = len(prompt["token_ids"]), session.plan.config.workload.new_tokens
        say("piece", "".join(chr(ord("a") + (start + index) % 26) for index in range(new_tokens)))
        say("end", "")


def _pass_of(session: ScriptedSession, arm: int) -> UntimedPass:
    """An arm over every batch, with the bytes that its cache would have."""
    decoder, new_tokens = session.decoders.plain(arm), session.plan.config.workload.new_tokens
    decoder.prepare(None)
    runs = [decoder.run(batch, new_tokens, Unobserved(), session.stop_ids) for batch in session.batches]
    tokens = [ids for run in runs for ids in run.new_ids]
    proofs = [proof_of(session, arm, batch, run) for batch, run in zip(session.batches, runs, strict=True)]
    return UntimedPass(
        arm=arm,
        tokens=tuple(map(tuple, tokens)),
        texts=tuple("".join(map(chr, ids)) for ids in tokens),
        finish_reasons=tuple("stop" if ids[-1] in session.stop_ids else "length" for ids in tokens),
        tokens_sha256=tuple(tokens_sha256(run.new_ids) for run in runs),
        memory=_memory(session, arm),
        ranks=_ranks(session, _memory(session, arm), together(proofs)),
        memory_by_step=_memory_by_step(session, arm),
        proof=together([each for each in proofs for _ in range(session.team.size)]),
        proposals=_proposals(session, arm, runs),
        prefix=shared_prefix(session, arm),
    )


def _ranks(session: ScriptedSession, whole: Memory, proof: Proof) -> tuple[RankFigures, ...]:
    """Each rank's head of the script's cache, where there are several."""
    size = session.team.size
    if size == 1:
        return ()
    part = {name: None if (held := getattr(whole, name, None)) is None else held // size for name in RANK_BYTES}
    return tuple(
        RankFigures(
            rank=rank,
            device="scripted",
            **part,
            weights_predicted_bytes=part["weights_bytes"],
            same_tokens=True,
            steps_checked=proof.steps_checked,
            violations=proof.violations,
        ).because(dict.fromkeys(RankFigures.model_fields, NO_DEVICE))
        for rank in range(size)
    )


def _proposals(session: ScriptedSession, arm: int, runs: Sequence[Decoded]) -> Proposals | None:
    """A scripted draft makes one pass for each token that it proposes, and holds one token less than it proposed."""
    spec = session.plan.arms[arm]
    if not spec.proposes:
        return None
    counts, drafts = [], spec.mode == "assisted"
    for batch, run in zip(session.batches, runs, strict=True):
        proposed = CheckedProposals(run.passes, run.made).proposed(batch.longest)
        lengths = [batch.longest + sum(run.made[:index]) for index in range(len(run.made))]
        rounds = [
            draft_round(length, count, first=index == 0)
            for index, (length, count) in enumerate(zip(lengths, proposed, strict=True))
        ]
        held = max((made.past_after or 0 for each in rounds for made in each), default=0)
        seen = CheckedProposals(run.passes, run.made, rounds if drafts else None)
        kv_bytes = cache_bytes(session.facts, spec.cache, 1, held, prompt=held) if drafts else None
        counts.append(seen.counts(batch.longest, kv_bytes))
    if not drafts:
        return proposals_of(counts)
    return proposals_of(counts, session.plan.config.assisted.model, None, 0)


def _memory(session: ScriptedSession, arm: int) -> Memory:
    batch = max(session.batches, key=lambda each: each.longest * len(each.token_ids))
    held = session.prepared.interruptions.context(batch.longest, session.plan.config.workload.new_tokens - 1)
    kv = _kv_bytes(session, arm, held, len(batch.token_ids))
    return Memory(
        weights_bytes=None,
        kv_cache_bytes=kv,
        kv_cache_predicted_bytes=kv,
        kv_cache_storage_bytes=kv,
        peak_allocated_bytes=None,
        peak_reserved_bytes=None,
        device_used_bytes=None,
        process_rss_bytes=None,
    ).because(dict.fromkeys(Memory.model_fields, NO_DEVICE))


def _memory_by_step(session: ScriptedSession, arm: int) -> tuple[MemoryPoint, ...]:
    batch, interruptions = session.batches[0], session.prepared.interruptions
    passes = range(session.plan.config.workload.new_tokens)
    contexts = [interruptions.context(batch.longest, index) for index in passes]
    rows = len(batch.token_ids)
    return tuple(
        MemoryPoint(context_length=context, kv_cache_bytes=_kv_bytes(session, arm, context, rows), allocated_bytes=None)
        for context in contexts
    )


def _kv_bytes(session: ScriptedSession, arm: int, tokens: int, rows: int) -> int:
    spec = session.plan.arms[arm]
    if not spec.keeps_past:
        return 0
    prompt, new_tokens = max(batch.longest for batch in session.batches), session.plan.config.workload.new_tokens
    longest = session.prepared.interruptions.context(prompt, new_tokens)
    length = spec.static_cache_length(max(longest, tokens)) if spec.is_static else None
    # A script has neither windows nor what is quantised, which the configuration's check refuses.
    return cache_bytes(session.facts, spec.cache, rows, tokens, prompt=tokens, length=length) or 0


def _agreements(
    session: ScriptedSession, passes: Sequence[UntimedPass], tell: Callable[[int, int], None]
) -> list[AgreementFigures]:
    """All arms read from one script, so their figures are equal by construction."""
    tell(0, 1)
    steps = min(len(ids) for ids in passes[0].tokens)
    candidates = range(1, len(session.plan.arms))
    return [AgreementFigures(arm, steps, 0.0, 0.0, 0.0, 0, noise_rel=0.0, noise_abs=0.0) for arm in candidates]


def _rescores(session: ScriptedSession, tell: Callable[[int, int], None]) -> list[RescoreSamples]:
    """One pass gives every token the same log-probability; a step with a cache is off by what the script says."""
    tell(0, 1)
    spec, new_tokens = session.model.spec, session.plan.config.workload.new_tokens
    rescored = (LOG_PROBABILITY,) * new_tokens
    other = tuple(LOG_PROBABILITY + spec.logprob_noise * (-1) ** step for step in range(new_tokens))
    scores = Scores(
        rescored, None, (1.0,) * new_tokens, {ORDER.name: other}, logit_rms=0.0, largest_logit=LARGEST_LOGIT
    )
    decoded = tuple(LOG_PROBABILITY - spec.logprob_error - spec.logprob_drift * step for step in range(new_tokens))
    return [
        RescoreSamples(
            number,
            str(session.facts.dtype),
            tuple(
                ScoredSequence(place, decoded if arm.keeps_past else rescored, scores)
                for place in range(len(session.prepared.prompts))
            ),
            (ORDER,),
            without_reference="the scripted model has no other type",
        )
        for number, arm in enumerate(session.plan.arms)
    ]


def _refused(*_: Any) -> Any:
    """What the configuration's check refuses to ask of a script, which has no logits."""
    raise AssertionError("config.rules refuses this of the scripted model")


def _other_attentions(session: ScriptedSession, arm: int) -> tuple[str, ...]:
    return ("math",) if session.plan.arms[arm].attention in UNPINNED else ()


def _host_check(session: ScriptedSession) -> HostCheck:
    """Each check takes so much longer than the one before as the script says."""
    factor = (1.0 + session.model.spec.host_drift) ** session.host_checks
    session.host_checks += 1
    return HostCheck(**{name: seconds * factor for name, seconds in HOST.model_dump().items()})


def _step_work(session: ScriptedSession, arm: int) -> StepWork:
    """The script's own times, over all steps of all batches."""
    spec, kernel, interruptions = session.plan.arms[arm], session.model.spec.kernel, session.prepared.interruptions
    steps = range(1, session.plan.config.workload.new_tokens)
    contexts = [interruptions.context(batch.longest, index) for batch in session.batches for index in steps]
    submitted = map(Buckets(spec.bucket or 1).padded, contexts)
    busy_s = sum(session.model.computing_s(spec, spec.keeps_past, each) for each in submitted) / len(contexts)
    kernels = (KernelShare(name=kernel, share=1.0),) if kernel else ()
    exchanged_s = session.model.spec.communication_s if session.team.size > 1 else None
    return StepWork(arm, None, busy_s, NO_OPERATIONS, kernels, exchanged_s)


def _counted_flops(session: ScriptedSession) -> CountedFlops:
    return CountedFlops(len(session.batches[0].token_ids), session.batches[0].longest, None, NO_OPERATIONS)


def _capacity(session: ScriptedSession) -> Capacity:
    """The script's own memory, which nothing else uses."""
    gib = session.plan.config.frontier.memory_gib
    return Capacity(session.model.spec.memory_bytes if gib is None else int(gib * 2**30), 0, of_process=False)


def _peak_of(session: ScriptedSession, attempt: Attempt) -> int:
    """Weights, cache, and what the largest pass takes."""
    arm, model, workload = session.plan.arms[attempt.arm], session.model, session.plan.config.workload
    prompt = attempt.context - workload.new_tokens + 1
    submitted = min(prompt, workload.prefill_chunk or prompt) if arm.keeps_past else attempt.context
    working = model.spec.step_bytes_per_token * attempt.rows * submitted
    cache = _kv_bytes(session, attempt.arm, attempt.context, attempt.rows)
    needed = (session.facts.weight_bytes or 0) + cache + working
    model.hold(needed)
    return needed


UNTIMED = Untimed(
    show_text=_show_text,
    shapes=lambda _: Shapes({}),  # no tensors, no shapes
    padding=lambda _: None,
    pass_of=_pass_of,
    traced_pass=_refused,
    agreements=_agreements,
    references=_refused,
    rescores=_rescores,
    other_attentions=_other_attentions,
    device_state=lambda _: (None, None),
    host_check=_host_check,
    step_work=_step_work,
    counted_flops=_counted_flops,
    capacity=_capacity,
    peak_of=_peak_of,
)


def environment_of_script() -> dict[str, Any]:
    """The machine, without a device."""
    return {**base_environment(), "device": "scripted", "device_name": "scripted"}


def scripted_place(spec: ModelConfig) -> Place | None:
    """The pretended device of a script; None for a script that has none, and disturbs nobody."""
    if spec.devices is None:
        return None
    index = os.environ.get(SCRIPTED_DEVICE, "0")
    return Place(f"scripted:{index}", (scripted_lease(int(index)),))


def _prompts(plan: Plan) -> list[dict[str, Any]]:
    """Bytes stand for tokens."""
    wanted = plan.prompts
    texts = [text.encode() for text in wanted.texts]
    if wanted.lengths:
        repeated = texts[0] * (max(wanted.lengths) // len(texts[0]) + 2)
        alike = wanted.shared or max(wanted.lengths)
        texts = [
            repeated[:length][:alike] + repeated[alike + copy : length + copy]
            for length in wanted.lengths
            for copy in range(wanted.copies)
        ]
    return [{"text": text.decode(errors="replace"), "token_ids": list(text)} for text in texts]


def _facts(plan: Plan) -> ModelFacts:
    """One layer with one head, for each rank, of one half-precision number, and the script's weights.

    A head is 4 bytes of cache a token.
    """
    ranks = plan.config.model.tensor_parallel
    shape = {
        "model_type": "scripted",
        "num_hidden_layers": 1,
        "hidden_size": ranks,
        "num_attention_heads": ranks,
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
