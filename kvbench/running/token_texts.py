"""What a run writes, for reading: its text before anything is timed, and each token with its confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from kvbench.decoding.protocol import Unobserved
from kvbench.decoding.streaming import REPLACEMENT, IncrementalText, TextObserver
from kvbench.decoding.tracing import Traced
from kvbench.records.untimed import TracedPass, TracedToken
from kvbench.running.preconditions import end_ids
from kvbench.running.torch_session import TorchSession

SHOWN_PROMPTS = 4  # enough to see what the model does; the rest is in the record
SHOWN_TOKENS = 96  # a paragraph; a large model without a cache should not be waited for


def show_text(session: TorchSession, say: Callable[[str, str], None]) -> None:
    """Write some prompts' continuations, untimed: calls `say(kind, text)` with kind prompt, piece or end.

    They stop at the tokenizer's end, whatever the timed runs do: it is for reading.
    """
    plan, model = session.plan, session.model
    stop_ids = session.stop_ids or end_ids(model.loaded)
    arm = next((index for index, spec in enumerate(plan.arms) if spec.mode == "cached"), 0)
    tokens = min(plan.config.workload.new_tokens, SHOWN_TOKENS)
    for prompt in session.prepared.prompts[:SHOWN_PROMPTS]:
        say("prompt", prompt["text"])
        text = IncrementalText(model.text)
        observer = TextObserver(text, plan.config.stream.interval, stop_ids, lambda piece: say("piece", piece))
        decoder = session.decoders.unprepared(arm)
        decoder.prepare(None)
        decoder.run(session.batches.batch(0, [prompt["token_ids"]], tokens), tokens, observer, stop_ids)
        observer.finish()
        say("end", "")


def traced_pass(session: TorchSession, arm: int) -> TracedPass:
    """An arm over every batch with the confidence of each new token observed instead of its time."""
    sequences: list[tuple[TracedToken, ...]] = []
    texts = TokenTexts(session.model.loaded.tokenizer)
    for batch in session.batches:
        decoder = session.decoders.traced(arm)
        decoder.prepare(None)
        decoded = decoder.run(batch, session.plan.config.workload.new_tokens, Unobserved(), session.stop_ids)
        assert decoded.trace is not None
        sequences += traced_sequences(decoded.sequences(session.stop_ids), decoded.trace, texts)
    return TracedPass(arm, tuple(sequences))


class TokenTexts:
    """What a tokenizer's tokens say, within a text and by themselves."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._own: dict[int, str] = {}

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """One piece a token; joined they are the text of `ids` without special tokens."""
        text = IncrementalText(lambda some: str(self._tokenizer.decode(list(some), skip_special_tokens=True)))
        pieces = [text.add([token]) for token in ids]
        if pieces:
            pieces[-1] += text.finish()
        return pieces

    def own(self, token: int) -> str:
        """The token's own text with the space that it begins with; its name where it is no text by itself."""
        if token not in self._own:
            self._own[token] = self._read(token)
        return self._own[token]

    def _read(self, token: int) -> str:
        once, twice = (str(self._tokenizer.decode([token] * times)) for times in (1, 2))
        text = twice[len(once) :]  # of the second one: many tokenizers drop the space at the beginning of a text
        if text and REPLACEMENT not in text:
            return text
        name = self._tokenizer.convert_ids_to_tokens(token)
        return once if name is None else str(name)  # None: an id past the vocabulary, which padded models can write


def traced_sequences(
    new_ids: Sequence[Sequence[int]], traced: Traced, texts: TokenTexts
) -> list[tuple[TracedToken, ...]]:
    """The tokens of a batch; what was traced after the end of a sequence is left out."""
    probability, rank, entropy = traced.probability.tolist(), traced.rank.tolist(), traced.entropy_nats.tolist()
    top_ids, top_probability = traced.top_ids.tolist(), traced.top_probability.tolist()
    return [
        tuple(
            TracedToken(
                token_id=token,
                text=piece,
                probability=_finite(probability[row][step]),
                rank=rank[row][step],
                entropy_nats=_finite(entropy[row][step]),
                alternatives=tuple(
                    (other, texts.own(other), share)
                    for other, share in zip(top_ids[row][step], top_probability[row][step], strict=True)
                    if math.isfinite(share)
                ),
            )
            for step, (token, piece) in enumerate(zip(ids, texts.pieces(ids), strict=True))
        )
        for row, ids in enumerate(new_ids)
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
