"""Where a decode is interrupted: the cache is lost there, or a message is inserted, or both. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interruptions:
    """The passes that follow an interruption, and what was inserted before them.

    `steps` are indices of new tokens, ascending: the prefill makes token 0, so the first step that can be interrupted
    is 1. `message_ids` are inserted at each of them, after the tokens so far; empty when the cache is merely lost.
    """

    steps: tuple[int, ...] = ()
    message_ids: tuple[int, ...] = ()

    def context(self, prompt: int, index: int) -> int:
        """Tokens visible to the pass that makes new token `index` after a prompt of `prompt` tokens."""
        return prompt + index + len(self.message_ids) * sum(step <= index for step in self.steps)


NONE = Interruptions()


def default_steps(new_tokens: int) -> tuple[int, ...]:
    """After a quarter, a half and three quarters of the new tokens, as far as these differ."""
    return tuple(sorted({max(1, new_tokens * quarter // 4) for quarter in (1, 2, 3)}))
