"""The prompts of a run: as token ids, as batches, and as batches made of them for what is looked at beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, overload

from kvbench.errors import ConfigError, PromptError
from kvbench.passes import Interruptions
from kvbench.plan import Plan, Prompts

PROFILED_BATCHES = 8  # of many, spread over them
PROFILED_STEPS = 4


def tokenise(plan: Plan, tokenizer: Any) -> list[dict[str, Any]]:
    """The prompts of a plan as {"text", "token_ids"}, in order; without a tokenizer text is None.

    Raises `ConfigError` when a chat template is asked for and there is none, `PromptError` for a prompt of no tokens.
    """
    prompts = plan.prompts
    if prompts.lengths:
        return [_cut(tokenizer, prompts, length, copy) for length in prompts.lengths for copy in range(prompts.copies)]
    if prompts.token_ids:
        return [_given(number, ids, tokenizer) for number, ids in enumerate(prompts.token_ids, start=1)]
    encode = _chat_encoder(tokenizer) if plan.config.workload.chat_template else tokenizer.encode
    return [_entry(number, text, encode(text)) for number, text in enumerate(prompts.texts, start=1)]


def message_ids(plan: Plan, tokenizer: Any) -> tuple[int, ...]:
    """Ids of what is inserted at every interruption; none when nothing is."""
    message = plan.config.interrupt.message
    return () if message is None else tuple(tokenizer.encode(message, add_special_tokens=False))


def _given(number: int, ids: tuple[int, ...], tokenizer: Any) -> dict[str, Any]:
    return _entry(number, tokenizer.decode(list(ids)) or None, list(ids))


def _entry(number: int, text: str | None, ids: list[int]) -> dict[str, Any]:
    if not ids:
        raise PromptError(f"prompt {number} has no tokens for this tokenizer: write some text")
    return {"text": text, "token_ids": list(ids)}


def _chat_encoder(tokenizer: Any) -> Any:
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError("workload.chat_template=true: this model's tokenizer has no chat template; set it to false")

    def encode(text: str) -> list[int]:
        turns = [{"role": "user", "content": text}]
        ids: list[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        return ids

    return encode


def _cut(tokenizer: Any, prompts: Prompts, length: int, copy: int) -> dict[str, Any]:
    """Exactly `length` ids: the text repeated and cut, behind the tokenizer's own start tokens.

    Each copy starts elsewhere in the text, so that the sequences of a batch are different ones, as far as the length
    has room for more than the start tokens and those that all share.
    """
    ids: list[int] = tokenizer.encode(prompts.texts[0], add_special_tokens=False)
    start_ids: list[int] = tokenizer.encode("", add_special_tokens=True)[:length]
    wanted = length - len(start_ids)
    offset = copy * len(ids) // prompts.copies
    # What is shared is the beginning of the first copy.
    alike = max(0, prompts.shared - len(start_ids))
    repeated = [ids[(position + offset * (position >= alike)) % len(ids)] for position in range(wanted)]
    return {"text": tokenizer.decode(repeated), "token_ids": [*start_ids, *repeated]}


class Batch(Protocol):
    """Prompts that are decoded together."""

    @property
    def index(self) -> int:
        """Its number in the run."""

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""

    @property
    def shared(self) -> int:
        """Tokens that all its prompts begin with, short of a whole one."""


B = TypeVar("B", bound=Batch)


class PromptBatches(Sequence[B]):
    """Prompts in file order, `batch_size` at a time, each batch with room for `new_tokens` and the interruptions.

    `make(index, token_ids, room)` makes a batch with room for so many more tokens.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        batch_size: int,
        new_tokens: int,
        interruptions: Interruptions,
        max_context: int | None,
        make: Callable[[int, Sequence[Sequence[int]], int], B],
    ) -> None:
        self._prompts = prompts
        self._new_tokens = new_tokens
        self._interruptions = interruptions
        self._max_context = max_context
        self._make = make
        self._unseen = 0  # context lengths beyond those of the run that were used up
        count = len(prompts)
        # Prompt indices of each batch; the last one may be smaller.
        self.members = tuple(
            tuple(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)
        )
        self._all = tuple(
            self.batch(number, [prompts[index] for index in members], new_tokens)
            for number, members in enumerate(self.members)
        )

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> B: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[B]: ...
    def __getitem__(self, index: int | slice) -> B | Sequence[B]:
        return self._all[index]

    def batch(self, number: int, token_ids: Sequence[Sequence[int]], new_tokens: int) -> B:
        """One batch with room for so many new tokens and what the interruptions put in."""
        return self._make(number, token_ids, self._interruptions.context(0, new_tokens))

    @property
    def largest(self) -> B:
        """The batch with the most tokens, prompts and new ones."""
        room = self._interruptions.context(0, self._new_tokens)
        return max(self, key=lambda batch: len(self.members[batch.index]) * (batch.longest + room))

    def fresh(self, batch: B, seed: int) -> B:
        """A batch of the same shape with a prompt's own tokens in another order, which was not decoded before."""
        dice = random.Random(seed)  # noqa: S311 - an order, not a secret
        return self.batch(batch.index, [dice.sample(row, len(row)) for row in self._rows(batch)], self._new_tokens)

    def unseen(self, steps: int) -> B | None:
        """The first batch prolonged past the end of the run, or cut short of its beginning; None: no length is left.

        Every call gives other lengths.
        """
        self._unseen += steps + 2
        seen = [batch.longest for batch in self]
        length = self._interruptions.context(max(seen), self._new_tokens) + self._unseen - steps
        if self._max_context is not None and length + steps > self._max_context:
            length = min(seen) - self._unseen
        if length < 1:
            return None
        return self._make(0, [_prolonged(row, length) for row in self._rows(self[0])], steps + 1)

    def with_room(self, new_tokens: int) -> tuple[B, int]:
        """The first batch with room for so many new tokens, or as many as the model's context allows, and how many."""
        if self._max_context is not None:
            new_tokens = min(new_tokens, self._max_context - self[0].longest)
        return self._make(0, self._rows(self[0]), new_tokens), new_tokens

    def around_the_mean_step(self) -> tuple[list[B], int]:
        """Some batches from which a few steps are those in the middle of the run, and how many steps."""
        decoded = self._new_tokens - 1
        steps = min(PROFILED_STEPS, decoded)
        before = (decoded - steps) // 2
        count, some = len(self), min(len(self), PROFILED_BATCHES)
        chosen = [self[(2 * place + 1) * count // (2 * some)] for place in range(some)]  # the middle of each part
        return [self._begun(batch, before) for batch in chosen], steps

    def _begun(self, batch: B, before: int) -> B:
        """A batch as if so many tokens had been decoded from it already, with the room that is left then."""
        rows = [_prolonged(row, len(row) + before) for row in self._rows(batch)]
        return self._make(batch.index, rows, self._interruptions.context(0, self._new_tokens) - before)

    def _rows(self, batch: B) -> list[Sequence[int]]:
        return [self._prompts[index] for index in self.members[batch.index]]


def _prolonged(row: Sequence[int], length: int) -> list[int]:
    """A prompt repeated and cut to exactly so many tokens."""
    return [row[position % len(row)] for position in range(length)]
