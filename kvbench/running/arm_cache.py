"""What the cache of an arm is predicted to hold at the end of a run. No torch."""

from __future__ import annotations

from kvbench.arm import Arm
from kvbench.cache_sizes import cache_bytes
from kvbench.interruptions import Interruptions
from kvbench.model_facts import ModelFacts

MESSAGES = "not predicted where messages are appended to a quantised cache: versions of transformers differ there"


def predicted_bytes(
    facts: ModelFacts,
    arm: Arm,
    rows: int,
    prompt: int,
    passes: int,
    interruptions: Interruptions,
    length: int | None = None,
) -> int | None:
    """Bytes after so many passes over prompts of `prompt` tokens; None where they are not known.

    `length` is that of a static cache, where it is known to be another than `needed_length` would make it.
    """
    if not arm.keeps_past:
        return 0
    held = interruptions.context(prompt, passes - 1)  # the newest token was never submitted
    whole = prompt
    if arm.is_lossy and interruptions.steps:
        if arm.mode == "interrupted":  # what is rebuilt is submitted at once, like a prompt
            done = [step for step in interruptions.steps if step < passes]
            whole = interruptions.context(prompt, done[-1]) if done else prompt
        elif interruptions.message_ids:
            return None
    return cache_bytes(
        facts,
        arm.cache,
        rows,
        held,
        prompt=whole,
        length=(length or arm.static_cache_length(interruptions.context(prompt, passes))) if arm.is_static else None,
        windows=arm.has_windows,
    )
