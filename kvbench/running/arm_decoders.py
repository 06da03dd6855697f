"""From an arm of a plan to what decodes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import torch

from kvbench.arm import Arm
from kvbench.capabilities import EAGER, MODES, NO_CACHE, habits_of
from kvbench.decoding.caches import CacheMaker
from kvbench.decoding.engines.compiled import Compiled
from kvbench.decoding.engines.engine import PLAIN, Engine, is_repeatable
from kvbench.decoding.engines.graph import Graph
from kvbench.decoding.generate import Generate, compiles
from kvbench.decoding.loops import CachedLoop, Habits, InterruptedLoop, Loop, NoCacheLoop, PrefixLoop
from kvbench.decoding.proposing import Drafting, Proposing
from kvbench.decoding.protocol import Chooser, Decoded, Decoder
from kvbench.decoding.sampling import Forced, Sampler, generate_arguments
from kvbench.decoding.settings import SessionSettings
from kvbench.decoding.token_logprobs import ChosenScores, Followed
from kvbench.decoding.tracing import SeesChoices, Trace, TracedDecoder, TracingChooser, WatchedDecoder
from kvbench.errors import ModelUnavailable
from kvbench.models.draft import Draft
from kvbench.passes import Buckets, Chunks, Interruptions
from kvbench.plan import Plan
from kvbench.running.model_on_device import ModelOnDevice


def engine_of(arm: Arm, device: torch.device) -> Engine:
    """A new engine for one arm."""
    match arm.engine:
        case "compiled":
            assert arm.compile_mode is not None
            return Compiled(device, arm.compile_mode)
        case "graph":
            return Graph(device)
        case "fused":
            from kvbench.decoding.engines.fused.step import Fused  # Triton is there on a GPU alone

            return Fused(device)
        case _:
            return PLAIN


LOOPS: dict[str, Callable[..., Loop]] = {
    "nocache": NoCacheLoop,
    "nocache_naive": NoCacheLoop,
    "cached": CachedLoop,
    "interrupted": InterruptedLoop,
    "resumed": CachedLoop,
    "prefix": PrefixLoop,
}


class ArmDecoders:
    """Makes decoders for the arms of one plan, with the plan's sampling settings; `pad_id` fills rows after their end.

    A decoder with a forced path follows it instead of sampling.
    """

    def __init__(
        self,
        model: ModelOnDevice,
        plan: Plan,
        interruptions: Interruptions,
        pad_id: int,
        draft: Draft | None = None,
    ) -> None:
        self._model = model
        self._draft = draft
        self._plan = plan
        self._interruptions = interruptions
        self._pad_id = pad_id
        # Kept for the whole run: what an engine has prepared belongs to the caches that it has seen.
        self._engines = [engine_of(arm, model.device) for arm in plan.arms]
        self._caches = [
            CacheMaker(model.forward, arm.cache, arm.cache_tokens, kept=arm.repeats and arm.keeps_past)
            for arm in plan.arms
        ]

    def plain(self, arm: int, forced: Forced | None = None, attention: str | None = None) -> Decoder:
        """The decoder that is timed; `attention` takes the place of the arm's own, where its engine repeats nothing."""
        assert attention is None or not self._plan.arms[arm].repeats, "a prepared pass has its attention in it"
        return self._made(arm, self._plan.arms[arm], forced or Sampler(self._plan.config.sampling), forced, attention)

    def unprepared(
        self, arm: int, forced: Forced | None = None, attention: str | None = None, *, exact: bool = False
    ) -> Decoder:
        """The same mode and cache in plain PyTorch at exact lengths, where preparing a shape would not pay.

        `exact` puts a dynamic cache in the place of a quantised one. Beside an arm that checks proposed tokens it is
        recompute: passes of many tokens round more than steps of one, and rounding is taken to be what both do.
        """
        spec = replace(self._plan.arms[arm], engine=EAGER, compile_mode=None, bucket=None)
        if any(each.proposes for each in self._plan.arms):
            spec = replace(spec, mode="nocache", cache=NO_CACHE)
        if exact and spec.is_lossy:
            spec = replace(spec, cache="dynamic")
        return self._made(None, spec, forced or Sampler(self._plan.config.sampling), forced, attention)

    def round_trip(self, arm: int, forced: Forced | Followed) -> tuple[Decoder, Callable[[Decoded], float]] | None:
        """What an arm with a quantised cache is held against, and its worst error in steps; None for other arms."""
        spec = self._plan.arms[arm]
        if not spec.is_lossy:
            return None
        caches = CacheMaker(self._model.forward, spec.cache, round_trip=True)
        spec = replace(spec, mode=spec.mode if MODES[spec.mode].ours else "cached", engine=EAGER)
        return self._made(None, spec, forced, caches=caches), lambda decoded: decoded.cache.worst_steps()

    def prepared_s(self, arm: int) -> float | None:
        """Seconds that compiling and capturing have taken so far; None where nothing is prepared."""
        spec = self._plan.arms[arm]
        return self._engines[arm].prepared_s if spec.repeats and MODES[spec.mode].ours else None

    def rehearse(self, arm: int, decode: Callable[[], Decoded]) -> None:
        """Run `decode`, a decoder of an arm that repeats passes.

        Raises `ModelUnavailable` when passes went past its engine: the run would be called by the engine's name and be
        plain PyTorch.
        """
        before = self._engines[arm].repeated
        decoded = decode()
        spec, model = self._plan.arms[arm], self._model.loaded.model
        if MODES[spec.mode].ours:
            expected = sum(map(is_repeatable, decoded.passes))
            # More is nothing wrong: to a cache that was emptied, a prefill of one token is a step.
            if (repeated := self._engines[arm].repeated - before) >= expected:
                return
            what = f"{expected - repeated} of {expected} passes of {type(model).__name__} went past it"
        elif compiles(model, decoded.cache):
            return
        else:
            what = f"generate does not compile {type(model).__name__} here"
        raise ModelUnavailable(f"engine={spec.engine}: {what}: use engine=eager")

    def replayed_bytes(self, arm: int) -> int:
        """What a prepared pass of the arm takes on a GPU, in bytes, though its replays allocate nothing."""
        return self._engines[arm].replayed_bytes

    def release_others(self, arm: int) -> None:
        """Give up what the other arms hold on the device, whose memory is not this arm's."""
        if self._draft is not None and self._draft.weight_bytes and self._plan.arms[arm].mode != "assisted":
            self._draft.model.to("cpu")  # `prepare` of the arm that has it fetches it back
        for other, (engine, caches) in enumerate(zip(self._engines, self._caches, strict=True)):
            if other != arm:
                engine.release()
                caches.release()

    def traced(self, arm: int) -> Decoder:
        """A decoder that also tells the confidence of each token."""
        return self._traced_by(arm, Trace(self._plan.config.trace.top_k))

    def scored(self, arm: int) -> Decoder:
        """A decoder that also tells the log-probability of each token, by its own raw logits."""
        return self._traced_by(arm, ChosenScores())

    def _traced_by(self, arm: int, trace: SeesChoices) -> Decoder:
        if self._plan.arms[arm].mode in LOOPS:
            chooser = TracingChooser(Sampler(self._plan.config.sampling), trace)
            return TracedDecoder(self._made(arm, self._plan.arms[arm], chooser), trace)
        return TracedDecoder(WatchedDecoder(self.plain(arm), self._model.loaded.model, trace), trace)

    def _made(
        self,
        arm: int | None,
        spec: Arm,
        chooser: Chooser,
        forced: Forced | None = None,
        attention: str | None = None,
        caches: CacheMaker | None = None,
    ) -> Decoder:
        """A decoder of `spec`, with what is kept for an arm of the run, or with nothing kept."""
        config, forward = self._plan.config, self._model.forward
        setting = SessionSettings(attention or spec.attention, self._model.own_attention, config.sampling.seed)
        chunks = Chunks(config.workload.prefill_chunk)
        if MODES[spec.mode].ours:
            if caches is None:
                caches = CacheMaker(forward, spec.cache, spec.cache_tokens) if arm is None else self._caches[arm]
            buckets = Buckets(spec.bucket or 1, self._model.loaded.facts.max_context)
            return LOOPS[spec.mode](
                forward,
                chooser,
                setting,
                self._pad_id,
                habits=Habits(habits_of(spec.mode, spec.habit), self._model.text, max(1, config.stream.interval)),
                interruptions=self._interruptions,
                engine=PLAIN if arm is None else self._engines[arm],
                **({"caches": caches, "chunks": chunks} if spec.keeps_past else {"buckets": buckets}),
            )
        arguments = generate_arguments(config.sampling)
        if spec.proposes:
            return Proposing(
                self._model.loaded.model,
                arguments,
                setting,
                self._pad_id,
                cache=spec.cache,
                drafting=self._drafting(attention or spec.attention) if spec.mode == "assisted" else None,
                lookup=asdict(config.prompt_lookup) if spec.mode == "prompt_lookup" else None,
                forced=forced,
            )
        return Generate(
            self._model.loaded.model,
            arguments,
            setting,
            self._pad_id,
            use_cache=spec.keeps_past,
            cache=spec.cache,
            compile_mode=spec.compile_mode,
            forced=forced,
            chunks=chunks,
        )

    def _drafting(self, attention: str) -> Drafting:
        """The draft with what it is told, in `generate`'s own words."""
        assert self._draft is not None, "a session with an assisted arm has a draft"
        assisted = asdict(self._plan.config.assisted)
        setting = SessionSettings(attention, self._draft.own_attention, self._plan.config.sampling.seed)
        return Drafting(self._draft.model, setting, {key: assisted[key] for key in assisted if key != "model"})
