"""Some prompts' continuations, written out for the reader before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvbench.decoding.protocol import Decoder, PromptBatch
from kvbench.decoding.streaming import IncrementalText, TextObserver
from kvbench.plan import Plan

SHOWN_PROMPTS = 4  # enough to see what the model does; the rest is in the record
SHOWN_TOKENS = 96  # a paragraph; a large model without a cache should not be waited for


def show_text(
    plan: Plan,
    prompts: Sequence[dict[str, Any]],
    batch_of: Callable[[Sequence[int], int], PromptBatch],
    decoder_of: Callable[[int], Decoder],
    text_of: Callable[[Sequence[int]], str],
    stop_ids: tuple[int, ...],
    say: Callable[[str, str], None],
) -> None:
    """See `Session.show_text`; `batch_of` makes a batch of one prompt with room for so many new tokens."""
    arm = next((index for index, spec in enumerate(plan.arms) if spec.mode == "cached"), 0)
    tokens = min(plan.config.workload.new_tokens, SHOWN_TOKENS)
    for prompt in prompts[:SHOWN_PROMPTS]:
        say("prompt", prompt["text"])
        text = IncrementalText(text_of)
        observer = TextObserver(text, plan.config.stream.interval, stop_ids, lambda piece: say("piece", piece))
        decoder = decoder_of(arm)
        decoder.prepare(None)
        decoder.run(batch_of(prompt["token_ids"], tokens), tokens, observer, stop_ids)
        observer.finish()
        say("end", "")
