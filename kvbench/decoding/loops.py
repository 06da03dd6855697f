"""The hand-written loops: one shape, what each mode does with its past, and the habits that cost time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from kvbench.decoding.caches import CacheMaker, length_without_sync
from kvbench.decoding.engines.engine import PLAIN, Engine
from kvbench.decoding.forward import Forward, widened
from kvbench.decoding.protocol import Chooser, Decoded, Observer, Pass, PromptBatch
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import ModelUnavailable
from kvbench.passes import EXACT, UNINTERRUPTED, WHOLE, Buckets, Chunks, Interruptions

# What hand-written loops do at every step without need, done on purpose so that its cost can be measured.
# The loop that many people start from has all of them. It also has two that cost no time worth an arm: its top-p
# only switches greedy decoding on and never filters, and it draws two samples and drops one.


def _no_text(ids: list[int]) -> str:
    raise AssertionError(f"no tokenizer was given for {len(ids)} tokens")


@dataclass(frozen=True)
class Habits:
    """The habits of one loop, by the names of `capabilities.HABITS`.

    `text` decodes token ids, `interval` is the number of tokens between two decodings of the whole text.
    """

    names: frozenset[str] = frozenset()
    text: Callable[[list[int]], str] = _no_text
    interval: int = 1

    @property
    def gradients(self) -> bool:
        """Whether every step records what a backward pass would need."""
        return "autograd" in self.names

    @property
    def all_logits(self) -> bool:
        """Whether logits of every position are asked for."""
        return "all_logits" in self.names

    @property
    def builds_cache(self) -> bool:
        """Whether a cache is built and dropped in passes that keep none."""
        return "dropped_cache" in self.names

    def context(self) -> AbstractContextManager[object]:
        """What a run happens in."""
        return torch.enable_grad() if self.gradients else torch.inference_mode()

    def submitted(self, ids: torch.Tensor) -> torch.Tensor:
        """`ids` (batch, submitted) as the model gets them: themselves, or rebuilt from a list on the host."""
        return torch.tensor(ids.tolist(), device=ids.device) if "python_list" in self.names else ids

    def after_token(self, index: int, ids: torch.Tensor, token: torch.Tensor) -> None:
        """What is done once new token `index`, `token` (batch,), stands at the end of `ids` (batch, context)."""
        if "host_read" in self.names:
            token.tolist()
        if "whole_text" in self.names and (index + 1) % self.interval == 0:
            for row in ids.tolist():
                self.text(row)


NO_HABITS = Habits()


# The loops: one shape, and what each mode does with its past.


class Loop(ABC):
    """Prefill and decode steps around `_next_logits`, which is all that the modes differ in.

    Tokens stay on the device. Without stop ids and habits nothing here waits for it; with stop ids the host reads one
    flag a step. At an interruption the message is put behind the tokens so far, in every mode alike.
    """

    def __init__(
        self,
        forward: Forward,
        chooser: Chooser,
        setting: SessionSettings,
        pad_id: int,
        *,
        habits: Habits = NO_HABITS,
        interruptions: Interruptions = UNINTERRUPTED,
        engine: Engine = PLAIN,
    ) -> None:
        self._forward = forward
        self._chooser = chooser
        self._setting = setting
        self._pad_id = pad_id
        self._habits = habits
        self._interruptions = interruptions
        self._engine = engine

    def prepare(self, block: int | None) -> None:  # noqa: ARG002 - a real model does not drift by script
        """Sets the attention and the seed, and has gradients kept where a habit asks for them."""
        self._setting.apply(self._forward.model)
        if self._habits.gradients:
            for parameter in self._forward.model.parameters():
                parameter.requires_grad_(parameter.is_floating_point())

    def run(self, batch: PromptBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """Decodes one pass after another, inside of what the arm sets: habits, a pinned backend, an engine."""
        with self._habits.context(), self._setting.pinned_backend(), self._engine.running(self._forward.model):
            return self._decode(batch, new_tokens, observer, stop_ids)

    def _decode(self, batch: PromptBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int]) -> Decoded:
        rows, prompt = batch.input_ids.shape
        context = self._interruptions.context(prompt, new_tokens)
        # Zeros: what a padded pass submits beyond the last token must be ids too.
        ids = batch.input_ids.new_zeros((rows, self._submitted(context)))
        ids[:, :prompt] = batch.input_ids
        # A run of fewer tokens than there is room for has the cache of one that fills it: what is compared and looked
        # into is then the step that is timed.
        self._room = max(context, batch.positions.shape[1])
        batch = widened(batch, ids.shape[1])
        message = batch.input_ids.new_tensor(self._interruptions.message_ids)
        cache = self._begin(ids)
        ending = _Ending(batch.input_ids.new_tensor(stop_ids), rows, self._pad_id) if stop_ids else None
        passes: list[Pass] = []
        length = prompt
        written = 0
        for index in range(new_tokens):
            if index in self._interruptions.steps:
                ids[:, length : length + len(message)] = message
                length += len(message)
                cache = self._after_interruption(cache, ids)
            token = self._settled(index)
            if token is None:
                logits, made = self._next_logits(ids, batch, length, cache)
                passes += made
                token = self._chooser.choose(ids[:, :length], logits)
            if ending is not None:
                token = ending.apply(token)
            ids[:, length] = token
            length += 1
            written += 1
            self._habits.after_token(index, ids[:, :length], token)
            observer.on_token(index, token)
            if ending is not None and ending.reached():
                break
        return Decoded(self._without_messages(ids, prompt, written), passes, cache)

    def _without_messages(self, ids: torch.Tensor, prompt: int, count: int) -> torch.Tensor:
        """The first `count` new ids, (batch, count), in slices: an index would have to be copied to the device."""
        bounds = [0, *(step for step in self._interruptions.steps if step < count), count]
        starts = [self._interruptions.context(prompt, first) for first in bounds[:-1]]
        lengths = [last - first for first, last in pairwise(bounds)]
        return torch.cat([ids[:, start : start + length] for start, length in zip(starts, lengths, strict=True)], dim=1)

    def _submitted(self, context: int) -> int:
        """Tokens of a pass whose last one is token number `context`, with what pads it at its end."""
        return context

    def _begin(self, ids: torch.Tensor) -> Any | None:  # noqa: ARG002 - what there is to begin with is a mode's affair
        """The cache that a run over `ids` (batch, context) starts with, if any."""
        return None

    def _after_interruption(self, cache: Any | None, ids: torch.Tensor) -> Any | None:  # noqa: ARG002 - it stays
        return cache

    def _settled(self, index: int) -> torch.Tensor | None:  # noqa: ARG002 - a cache has to see every token
        """Token ids (batch,) that need no pass."""
        return None

    @abstractmethod
    def _next_logits(
        self, ids: torch.Tensor, batch: PromptBatch, length: int, cache: Any | None
    ) -> tuple[torch.Tensor, list[Pass]]:
        """Logits (batch, vocabulary) of the last of `length` tokens, and the passes that were made for them."""


class NoCacheLoop(Loop):
    """Submits all tokens at every step, keeps nothing, and without habits asks for the last position's logits only.

    With `buckets` every pass is padded at its end, where causal attention cannot see it.
    """

    def __init__(self, *arguments: Any, buckets: Buckets = EXACT, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._buckets = buckets

    def _submitted(self, context: int) -> int:
        return self._buckets.padded(context)

    def _settled(self, index: int) -> torch.Tensor | None:
        return self._chooser.settled(index)  # no pass needs another one

    def _begin(self, ids: torch.Tensor) -> None:
        self._places = torch.arange(ids.shape[1], device=ids.device)

    def _next_logits(
        self,
        ids: torch.Tensor,
        batch: PromptBatch,
        length: int,
        cache: Any | None,  # noqa: ARG002 - this mode has none
    ) -> tuple[torch.Tensor, list[Pass]]:
        submitted = self._habits.submitted(ids[:, : self._buckets.padded(length)])
        logits = self._forward.last_logits(
            submitted,
            batch,
            submitted.shape[1],
            use_cache=self._habits.builds_cache,
            all_logits=self._habits.all_logits,
            last=None if self._buckets.exact else self._places[length - 1 : length],
        )
        return logits, [Pass(submitted.shape[1], None, None)]


class CachedLoop(Loop):
    """Submits the prompt once, then with a cache what is new: one token a step, and any message before it.

    What is longer than one of `chunks` goes in several passes, of which the last one's logits count.
    """

    def __init__(
        self,
        forward: Forward,
        *arguments: Any,
        caches: CacheMaker | None = None,
        chunks: Chunks = WHOLE,
        **named: Any,
    ) -> None:
        forward.require_cache()
        super().__init__(forward, *arguments, **named)
        self._caches = caches or CacheMaker(forward, "dynamic")
        self._chunks = chunks

    def _begin(self, ids: torch.Tensor) -> Any:
        self._handed = self._past = 0
        return self._caches.new(len(ids), self._room)

    def _next_logits(
        self, ids: torch.Tensor, batch: PromptBatch, length: int, cache: Any | None
    ) -> tuple[torch.Tensor, list[Pass]]:
        assert cache is not None
        passes = []
        # What comes next is what was not handed in yet, whatever the cache says that it holds: of a cache that loses
        # tokens that is written down.
        for begin, end in self._chunks.spans(self._handed, length):
            before = self._past
            newest = self._habits.submitted(ids[:, begin:end])
            logits = self._forward.last_logits(
                newest, batch, end, cache=cache, use_cache=True, all_logits=self._habits.all_logits
            )
            self._past = length_without_sync(cache, before + newest.shape[1])
            self._handed = end
            if self._past > end:
                raise ModelUnavailable(
                    f"after {end} tokens the cache of {type(self._forward.model).__name__} holds {self._past}: it puts"
                    " tokens of its own in front, so that a step cannot submit the newest token alone: use mode=nocache"
                )
            passes.append(Pass(newest.shape[1], before, self._past))
        return logits, passes


class InterruptedLoop(CachedLoop):
    """Loses its cache at every interruption: the next pass submits everything to an empty one."""

    def _after_interruption(self, cache: Any | None, ids: torch.Tensor) -> Any:  # noqa: ARG002 - what is lost is lost
        return self._begin(ids)


class PrefixLoop(CachedLoop):
    """Computes what all prompts of a batch begin with once, for a single row, and copies its cache to every row.

    Then each row submits the rest of its prompt, and one token a step. A batch that shares nothing is decoded as by
    `CachedLoop`.
    """

    def _next_logits(
        self, ids: torch.Tensor, batch: PromptBatch, length: int, cache: Any | None
    ) -> tuple[torch.Tensor, list[Pass]]:
        shared = 0 if self._handed else batch.shared
        if not shared:
            return super()._next_logits(ids, batch, length, cache)
        assert cache is not None
        single = replace(batch, input_ids=ids[:1], positions=batch.positions[:1], lengths=batch.lengths[:1])
        self._forward.last_logits(ids[:1, :shared], single, shared, cache=cache, use_cache=True)
        self._handed = self._past = length_without_sync(cache, shared)
        cache.batch_repeat_interleave(len(ids))
        logits, passes = super()._next_logits(ids, batch, length, cache)
        return logits, [Pass(shared, 0, shared), *passes]


class _Ending:
    """Which sequences have met a stop id; their later tokens become padding, as in `generate`."""

    def __init__(self, stop_ids: torch.Tensor, rows: int, pad_id: int) -> None:
        self._stop_ids = stop_ids
        self._pad_id = pad_id
        self._unfinished = torch.ones(rows, dtype=torch.bool, device=stop_ids.device)

    def apply(self, token: torch.Tensor) -> torch.Tensor:
        token = token.masked_fill(~self._unfinished, self._pad_id)
        self._unfinished &= ~torch.isin(token, self._stop_ids)
        return token

    def reached(self) -> bool:
        return not bool(self._unfinished.any())  # a synchronisation, in runs that ask to stop early
