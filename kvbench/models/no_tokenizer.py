"""A model without a tokenizer: it decodes from token ids, and what it writes has no text."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kvbench.errors import PromptError
from kvbench.models.own_text import OwnTokenizer
from kvbench.records.evidence import RunWarning

RANDOM_SEED = 0
RANDOM_TOKENS = 128  # of a prompt, unless prompt_tokens says otherwise

WITHOUT_TEXT = RunWarning(
    code="no_text", detail="no tokenizer was given: prompts are token ids, and the record has no texts"
)
RANDOM_PROMPTS = RunWarning(
    code="random_prompts",
    detail="no tokenizer and no prompts were given: the prompts are random token ids of the vocabulary"
    f" (seed {RANDOM_SEED}); times are those of real prompts, what is written means nothing, and the record has no"
    " texts",
)


class NoTokenizer(OwnTokenizer):
    """Stands where a tokenizer would. Raises `PromptError` for a text that it is asked to read."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:  # noqa: ARG002
        """Refused: see the class."""
        raise PromptError(f"prompts: the text {text[:40]!r} needs a tokenizer: pass one, or give prompts as token ids")

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:  # noqa: ARG002
        """Nothing: no token has a text."""
        return ""


def random_prompts(vocab_size: int, tokens: int, count: int) -> tuple[tuple[int, ...], ...]:
    """So many prompts of so many ids each, the same ones every time."""
    dice = random.Random(RANDOM_SEED)  # noqa: S311 - prompts, not a secret
    return tuple(tuple(dice.randrange(vocab_size) for _ in range(tokens)) for _ in range(count))
