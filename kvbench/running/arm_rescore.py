"""Every arm's own log-probabilities beside those of one pass over its text, and texts from elsewhere beside theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch

from kvbench.capabilities import takes_masks
from kvbench.decoding.forward import make_batch
from kvbench.decoding.loops import CachedLoop
from kvbench.decoding.protocol import PromptBatch, Unobserved
from kvbench.decoding.settings import SessionSettings
from kvbench.decoding.token_logprobs import Followed, Rescorer, Text
from kvbench.errors import ConfigError
from kvbench.passes import Interruptions
from kvbench.records.rescoring import RescoreSamples, ScoredSequence
from kvbench.running.arm_agreement import computed_in, second_attention, wider_model
from kvbench.running.model_on_device import ModelOnDevice
from kvbench.running.torch_session import TorchSession
from kvbench.scored_texts import GivenText, unfit

MOST_TOLD = 3  # texts that do not fit
WITH_NOISE = 8  # sequences, spread over all, on which other orders of summing are tried: five more passes each


def rescores(session: TorchSession, tell: Callable[[int, int], None]) -> list[RescoreSamples]:
    """Every arm decodes once more, and what it wrote is scored by one pass each; `tell(done, total)` on the way."""
    arms, count = range(len(session.plan.arms)), len(session.prepared.prompts)
    noisy = _spread(count)
    found = []
    with _rescorer(session.model, session.plan.config.model.quantization, session.meter.reset) as rescoring:
        for arm in arms:
            sequences: list[ScoredSequence] = []
            worst_steps: float | None = None
            for batch, members in zip(session.batches, session.batches.members, strict=True):
                tell(arm * count + members[0], len(arms) * count)
                tokens, decoded = _decoded(session, arm, batch)
                kept, steps = _kept(session, arm, batch, tokens) or (None, None)
                if steps is not None:
                    worst_steps = max(worst_steps or 0.0, steps)
                for row, number in enumerate(members):
                    text = _text(session, number, tokens[row])
                    sequences.append(
                        ScoredSequence(
                            number,
                            tuple(decoded[row][: len(tokens[row])]),
                            rescoring.rescorer.scores(text, with_noise=number in noisy),
                            kept=None if kept is None else tuple(kept[row][: len(tokens[row])]),
                        )
                    )
            cache = session.plan.arms[arm].cache if session.plan.arms[arm].is_lossy else ""
            found.append(rescoring.samples(arm, sequences, cache=cache, worst_steps=worst_steps))
    session.decoders.plain(0).prepare(None)  # puts the first arm's own attention back
    return found


def rescore_texts(
    model: ModelOnDevice,
    texts: Sequence[GivenText],
    quantization: str,
    *,
    temperature: float = 1.0,
    tell: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005 - nobody listens
) -> RescoreSamples:
    """Texts that stand, each scored by one pass; `tell(done, total)` on the way.

    Raises `ConfigError` for ids that the model does not know, or more of them than its context holds.
    """
    facts = model.loaded.facts
    if wrong := unfit(texts, facts.vocab_size, facts.max_context):
        raise ConfigError(
            "; ".join(wrong[:MOST_TOLD]) + (f"; and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else "")
        )
    noisy = _spread(len(texts))
    sequences = []
    with _rescorer(model, quantization, lambda: None, temperature) as rescoring:
        for number, text in enumerate(texts):
            tell(number, len(texts))
            whole = Text(text.ids, tuple(range(text.prompt_tokens, len(text.ids))))
            scores = rescoring.rescorer.scores(whole, with_noise=number in noisy)
            decoded = text.log_probabilities
            if decoded is None:
                decoded = _along(model, text, temperature)
            sequences.append(ScoredSequence(number, decoded, scores, text.written_to))
        from_elsewhere = any(text.log_probabilities is not None for text in texts)
        samples = rescoring.samples(0, sequences, from_elsewhere=from_elsewhere)
        if from_elsewhere:
            first = Text(texts[0].ids, tuple(range(texts[0].prompt_tokens, len(texts[0].ids))))
            samples = replace(samples, temperatures=rescoring.rescorer.at_temperatures(first))
        return replace(samples, temperature=temperature)


@dataclass(frozen=True)
class _Rescoring:
    """What scores, and what is known of how."""

    rescorer: Rescorer
    dtype: str
    wider: str
    without_wider: str
    experts: bool

    def samples(
        self,
        arm: int,
        sequences: Sequence[ScoredSequence],
        *,
        cache: str = "",
        worst_steps: float | None = None,
        from_elsewhere: bool = False,
    ) -> RescoreSamples:
        """What was measured, as the analysis takes it."""
        without = self.without_wider or self.rescorer.without_wider
        return RescoreSamples(
            arm=arm,
            dtype=self.dtype,
            sequences=tuple(sequences),
            ways=self.rescorer.ways,
            reference="" if without else self.wider,
            without_reference=without,
            experts=self.experts,
            cache=cache,
            worst_steps=worst_steps,
            from_elsewhere=from_elsewhere,
        )


@contextmanager
def _rescorer(
    model: ModelOnDevice, quantization: str, reset: Callable[[], None], temperature: float = 1.0
) -> Iterator[_Rescoring]:
    facts, attention = model.loaded.facts, model.own_attention
    with wider_model(model, quantization, reset) as (wide, why_none):
        rescorer = Rescorer(
            model.loaded.model,
            model.device,
            attention,
            facts.vocab_size or 1,
            takes_masks=not model.is_own and takes_masks("auto", model.device.type),
            second_attention=partial(second_attention, model, "auto"),
            wide=wide,
            temperature=temperature,
        )
        name = "" if wide is None else str(wide.dtype).removeprefix("torch.")
        yield _Rescoring(rescorer, computed_in(model, quantization), name, why_none, bool(facts.experts))


def _decoded(session: TorchSession, arm: int, batch: PromptBatch) -> tuple[list[list[int]], list[list[float]]]:
    """New ids of each sequence up to its end, and the log-probability that decoding gave to each."""
    decoder = session.decoders.scored(arm)
    decoder.prepare(None)
    decoded = decoder.run(batch, session.plan.config.workload.new_tokens, Unobserved(), session.stop_ids)
    scores: list[list[float]] = decoded.trace or []
    return decoded.sequences(session.stop_ids), scores


def _kept(
    session: TorchSession, arm: int, batch: PromptBatch, tokens: Sequence[Sequence[int]]
) -> tuple[list[list[float]], float] | None:
    """What a plain cache behind the same quantiser gives along the same tokens, and the quantiser's worst error."""
    longest = max(map(len, tokens))
    path = batch.input_ids.new_tensor([[*row, *[row[-1]] * (longest - len(row))] for row in tokens])
    followed = Followed(path)
    made = session.decoders.round_trip(arm, followed)
    if made is None:
        return None
    decoder, worst_steps = made
    decoder.prepare(None)
    decoded = decoder.run(batch, followed.length, Unobserved())
    return followed.read(), worst_steps(decoded)


def _text(session: TorchSession, number: int, tokens: Sequence[int]) -> Text:
    """A prompt with what was decoded, and with what was inserted where a decode was interrupted."""
    prompt = session.prepared.prompts[number]["token_ids"]
    interruptions: Interruptions = session.prepared.interruptions
    ids = list(prompt)
    for step, token in enumerate(tokens):
        if step in interruptions.steps:
            ids += interruptions.message_ids
        ids.append(token)
    return Text(tuple(ids), tuple(interruptions.context(len(prompt), step) for step in range(len(tokens))))


def _along(model: ModelOnDevice, text: GivenText, temperature: float) -> tuple[float, ...]:
    """What decoding with a cache gives along a text: the prompt in one pass, then one token at a time."""
    prompt, answer = text.ids[: text.prompt_tokens], text.ids[text.prompt_tokens :]
    batch = make_batch(0, [prompt], len(answer), model.device)
    followed = Followed(torch.tensor([answer], device=model.device), temperature)
    loop = CachedLoop(model.forward, followed, SessionSettings("auto", model.own_attention, 0), 0)
    loop.prepare(None)
    loop.run(batch, followed.length, Unobserved())
    return tuple(followed.read()[0])


def _spread(count: int) -> set[int]:
    """At most `WITH_NOISE` of so many places, evenly apart."""
    some = min(count, WITH_NOISE)
    return {place * count // some for place in range(some)} if some else set()
