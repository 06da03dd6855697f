"""What a script stands for: a model that only spends time and holds bytes, and the decoder that lets it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from kvbench.arm import Arm
from kvbench.capabilities import habits_of
from kvbench.config.schema import ModelConfig
from kvbench.decoding.buckets import Buckets
from kvbench.decoding.chunks import WHOLE, Chunks
from kvbench.decoding.proof import passes_by_token
from kvbench.decoding.protocol import Decoded, Observer
from kvbench.errors import KvbenchError, OutOfMemory
from kvbench.interruptions import NONE, Interruptions
from kvbench.measuring.clocks import HostClock, ScriptedClock
from kvbench.measuring.scripted_device import ScriptedSensors

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
        if spec.sensors != "none" and isinstance(self.clock, ScriptedClock):  # config.rules refuses another clock
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
