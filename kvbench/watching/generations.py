"""Passes as generations: which pass continues the text of the pass before, and how each comes by its past."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, Literal

from kvbench.watching.seen_pass import SeenPass

# How a pass comes by the text before it.
Way = Literal[
    "first",  # begins a text
    "chunk",  # more of the prompt, behind the part that the cache has
    "used",  # the newest token and a cache with all before it
    "several",  # several tokens at once behind a past, as speculative decoding submits them
    "beside",  # a cache with a past, and the whole text again
    "nothing",  # the whole text, no cache handed in, none given back
    "dropped",  # the whole text, no cache handed in, although the pass before gave one back
    "fresh",  # the whole text, with an empty cache
    "forgotten",  # the newest token alone, without a past
]
WHOLE: tuple[Way, ...] = ("nothing", "dropped", "fresh", "beside")
Kind = Literal["decoding", "single", "training"]
FEW = 2  # steps: fewer than these are called by their own name, not by the majority


@dataclass
class Generation:
    """Passes that continue one text (or one batch of texts of one length)."""

    passes: list[SeenPass] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    text: int = 0  # tokens of the text after the last pass
    held: int | None = 0  # tokens in the cache after the last pass; None where it is not known
    shape: Literal["growing", "window", "buffer"] = "growing"  # what a loop without a cache submits at each step
    past_at_start: int = 0

    @property
    def first(self) -> SeenPass:
        """The pass that begins it."""
        return self.passes[0]

    @property
    def rows(self) -> int:
        """Sequences in its batch."""
        return self.first.rows

    @cached_property
    def counted(self) -> Counter[Way]:
        """How many passes came by their past in which way."""
        return Counter(self.ways)

    @cached_property
    def steps(self) -> list[SeenPass]:
        """The passes behind the prompt."""
        return [seen for seen, way in zip(self.passes, self.ways, strict=True) if way not in ("first", "chunk")]

    @property
    def prompt_passes(self) -> int:
        """The first pass, and the chunks behind it."""
        return len(self.passes) - len(self.steps)

    @property
    def prompt(self) -> int:
        """Tokens that the prompt's passes submitted, per sequence."""
        return sum(seen.submitted for seen in self.passes[: self.prompt_passes])

    @property
    def tokens(self) -> int:
        """New tokens per sequence: one of the prompt and one of every step; of speculative decoding, at least these.

        How many tokens of its last pass were accepted is seen by nobody but the loop.
        """
        if self.counted["several"]:
            return (self.steps[-1].past or 0) + 1 - self.past_at_start - self.prompt + 1
        return len(self.steps) + 1

    @property
    def tokens_per_step(self) -> float:
        """Tokens by which the text grew per step, of the steps that another one followed; 1 where there is none."""
        pasts = [seen.past for seen in self.steps if isinstance(seen.past, int)]
        return (pasts[-1] - pasts[0]) / (len(pasts) - 1) if len(pasts) > 1 and self.counted["several"] else 1.0

    @property
    def kind(self) -> Kind:
        """Whether it is decoding at all."""
        if any(seen.backward or (seen.labels and seen.gradients) for seen in self.passes):
            return "training"
        return "decoding" if self.steps else "single"

    @property
    def way(self) -> Way | Literal["rebuilt", "mixed", "none"]:
        """How its steps come by their past: one word for all of them."""
        counted, steps = self.counted, len(self.steps)
        if not steps:
            return "none"
        whole = sum(counted[way] for way in WHOLE)
        kept = counted["used"] + counted["several"]
        if whole and kept >= FEW and whole < steps:
            return "rebuilt"
        if counted["several"] >= FEW or counted["several"] == steps:
            return "several" if not whole else "mixed"
        way, most = max(counted.items(), key=lambda item: (item[0] not in ("first", "chunk"), item[1]))
        return way if most >= steps - 1 or steps <= FEW else "mixed"

    @property
    def positions(self) -> int:
        """Positions that were submitted, of all sequences."""
        return sum(seen.rows * seen.submitted for seen in self.passes)

    @property
    def positions_with_cache(self) -> int | None:
        """Positions that the same tokens need where each is submitted once; None where that cannot be told."""
        if self.counted["several"]:
            return None
        return self.rows * (self.prompt + len(self.steps))

    @cached_property
    def step_seconds(self) -> float | None:
        """Median time of a step in the model, of those whose inside was not looked at meanwhile."""
        plain = [seen.seconds for seen in self.steps if seen.computed is None] or [seen.seconds for seen in self.steps]
        return median(plain) if plain else None

    @property
    def model_s(self) -> float:
        """Time in the model."""
        return sum(seen.seconds for seen in self.passes)

    @property
    def wall_s(self) -> float:
        """From the beginning of the first pass to the end of the last."""
        ends = [seen.ended for seen in self.passes if seen.ended is not None]
        return max(ends) - self.first.began if ends else 0.0

    def between(self, name: str) -> int:
        """What happened between its passes, of a field of `Gap`."""
        return sum(getattr(seen.gap, name) for seen in self.passes[1:])


def generations_of(passes: Sequence[SeenPass]) -> list[Generation]:
    """All passes that did not raise, each in one generation, in their order."""
    found: list[Generation] = []
    for seen in passes:
        if seen.ended is None:
            continue
        way = _continues(found[-1], seen) if found else None
        if way is None:
            found.append(_begun(seen))
        else:
            _add(found[-1], seen, way)
    return found


def _begun(seen: SeenPass) -> Generation:
    past = seen.past if isinstance(seen.past, int) else 0
    return Generation([seen], ["first"], past + seen.submitted, _held(seen, past), past_at_start=past)


def _add(generation: Generation, seen: SeenPass, way: Way) -> None:
    past = generation.held if seen.past is None else seen.past
    if way in WHOLE:
        if generation.text == seen.submitted:
            generation.shape = "window" if _is_shifted(generation.passes[-1], seen) else "buffer"
        generation.text = seen.submitted
    elif way == "forgotten":
        generation.text += seen.submitted
    elif way == "several":
        generation.text = (past or 0) + seen.submitted
    else:
        generation.text += seen.submitted
    generation.held = _held(seen, past or 0)
    generation.passes.append(seen)
    generation.ways.append(way)


def _held(seen: SeenPass, past: int) -> int:
    """Tokens in the cache that the next pass could be handed: 0 where there is none."""
    return 0 if seen.cache is None and seen.returned is None else past + seen.submitted


def _continues(generation: Generation, seen: SeenPass) -> Way | None:
    """How a pass continues the generation, or None where it begins another."""
    before = generation.passes[-1]
    if seen.rows != before.rows or seen.call is not before.call:
        return None
    same_cache = seen.cache is not None and seen.cache in (before.cache, before.returned)
    past = generation.held if seen.past is None and same_cache else seen.past
    if seen.cache is not None and past:
        return _behind_a_past(generation, seen, past) if same_cache or seen.call is not None else None
    return _without_a_past(generation, before, seen)


def _behind_a_past(generation: Generation, seen: SeenPass, past: int) -> Way | None:
    if seen.submitted > 1 and seen.submitted == generation.text + 1:
        return "beside"
    if past == generation.held:
        if seen.submitted == 1:
            return "used"
        if seen.call is not None and not seen.call.assisted and generation.ways[-1] in ("first", "chunk"):
            return "chunk"
        if seen.call is not None or generation.ways[-1] == "several":
            return "several"
        return "chunk" if generation.ways[-1] in ("first", "chunk") else None
    if generation.held is not None and past < generation.held:
        return "several"  # what was refused has been taken out of the cache
    return None


def _without_a_past(generation: Generation, before: SeenPass, seen: SeenPass) -> Way | None:
    whole: Way = "fresh" if seen.cache is not None else "nothing" if before.returned is None else "dropped"
    if seen.submitted == generation.text + 1 and seen.submitted > 1:
        return whole
    if seen.submitted == 1 and seen.cache is None:
        return "forgotten"
    if seen.submitted == before.submitted > 1 and (_is_shifted(before, seen) or _differs_in_one_place(before, seen)):
        return whole
    return whole if seen.call is not None else None


def _is_shifted(before: SeenPass, seen: SeenPass) -> bool:
    """Whether the ids are those of the pass before, moved on by one: a window over the end of the text."""
    if before.ids is None or seen.ids is None or before.ids.shape != seen.ids.shape:
        return False
    return bool((before.ids[:, 1:] == seen.ids[:, :-1]).all()) and not bool((before.ids == seen.ids).all())


def _differs_in_one_place(before: SeenPass, seen: SeenPass) -> bool:
    """Whether the ids are those of the pass before but for one column: a buffer that is filled."""
    if before.ids is None or seen.ids is None or before.ids.shape != seen.ids.shape:
        return False
    return int((before.ids != seen.ids).any(axis=0).sum()) == 1


def common_prefix(first: Any, second: Any) -> int:
    """Tokens with which the first sequences of two batches of ids both begin; 0 where one was not kept."""
    if first is None or second is None:
        return 0
    length = min(first.shape[1], second.shape[1])
    differing = (first[0, :length] != second[0, :length]).nonzero()[0]
    return int(differing[0]) if len(differing) else length
