"""Prompts and new tokens against the model's context, where its config and a small tokenizer are at hand."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from kvbench.errors import ConfigError, PromptError
from kvbench.plan import Plan

# Names that transformers takes for the context of every architecture that states them: others may be something else.
STATED = ("max_position_embeddings", "n_positions")
LARGEST_TOKENIZER_BYTES = 8_000_000  # more takes longer to read than a person waits for a refusal
# transformers may build a tokenizer that differs from its file in details: only far more tokens than fit are refused.
MARGIN = 1.1
READ_CHARACTERS = 8  # of a text for each token of the context: enough to tell, however long it is


def require_lengths(plan: Plan, folder: Path) -> None:
    """Raise `PromptError` or `ConfigError` when a prompt, alone or with its new tokens, is longer than the context."""
    limit = stated_context(folder)
    if limit is None or plan.config.frontier.axes is not None:
        return
    name, new_tokens = plan.model_name, plan.config.workload.new_tokens
    if plan.prompts.lengths:
        longest = max(plan.prompts.lengths)
        if longest >= limit:
            key = "scaling.lengths" if plan.config.scaling.lengths is not None else "workload.prompt_tokens"
            raise PromptError(f"{key}={longest}: {name} reads at most {limit} tokens: lower it")
        if longest + new_tokens > limit:
            raise ConfigError(
                f"workload.new_tokens={new_tokens}: with a prompt of {longest} tokens {name} has room for"
                f" {limit - longest} (context {limit})"
            )
        return
    text = max(plan.prompts.texts, key=len)
    if len(text.encode()) <= limit:
        return  # no token is less than a byte
    beginning = text[: limit * READ_CHARACTERS]
    tokens = _tokens(folder, beginning)
    if tokens is not None and tokens > limit * MARGIN:
        more = "about" if beginning == text else "more than"
        raise PromptError(
            f"prompt {plan.prompts.texts.index(text) + 1} has {more} {tokens} tokens, {name} reads at most {limit}:"
            " shorten it, or lower workload.prompt_tokens"
        )


@lru_cache(maxsize=64)
def stated_context(folder: Path) -> int | None:
    """Tokens that a model reads at most, as its config.json states beyond doubt; else None."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or "auto_map" in config:
        return None  # code of its own may count otherwise
    text = config.get("text_config", config)
    if not isinstance(text, dict) or any(config.get(section) is not None for section in ("decoder", "generator")):
        return None
    found = {value for name in STATED if type(value := text.get(name)) is int}
    return found.pop() if len(found) == 1 else None


@lru_cache(maxsize=64)
def _tokens(folder: Path, text: str) -> int | None:
    """Tokens of a text by the folder's tokenizer.json, without special ones; None where it is large or unreadable."""
    file = folder / "tokenizer.json"
    if not file.is_file() or file.stat().st_size > LARGEST_TOKENIZER_BYTES:
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return len(tokenizer.encode(text, add_special_tokens=False).ids)
    except Exception:  # its own type, for whatever the file may hold: the worker has the sentence
        return None
