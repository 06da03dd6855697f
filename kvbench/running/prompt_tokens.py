"""Prompts as token ids."""

from __future__ import annotations

from typing import Any

from kvbench.errors import ConfigError, PromptError
from kvbench.plan import Plan, Prompts


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
    has room for more than the start tokens.
    """
    ids: list[int] = tokenizer.encode(prompts.texts[0], add_special_tokens=False)
    start_ids: list[int] = tokenizer.encode("", add_special_tokens=True)[:length]
    wanted = length - len(start_ids)
    offset = copy * len(ids) // prompts.copies
    repeated = [ids[(offset + position) % len(ids)] for position in range(wanted)]
    return {"text": tokenizer.decode(repeated), "token_ids": [*start_ids, *repeated]}
