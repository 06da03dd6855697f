"""The tokenizer of Yuan 2.0's own folder: LLaMA's sentencepiece kind with other special tokens."""

from __future__ import annotations

from typing import Any

from transformers import LlamaTokenizer


class YuanTokenizer(LlamaTokenizer):
    """What config.json names as "YuanTokenizer": nothing is added to a text, and `<eod>` ends a document."""

    def __init__(self, vocab: Any = None, merges: Any = None, **named: Any) -> None:
        own = {"eos_token": "<eod>", "add_bos_token": False, "add_eos_token": False}
        super().__init__(vocab, merges, **{**own, **named})
