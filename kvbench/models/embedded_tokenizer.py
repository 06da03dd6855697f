"""The embedded model's tokenizer: a small BPE with byte fallback, so that any text goes there and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, EOS, BOS = "<pad>", "<eos>", "<bos>"
VOCABULARY = 768
# A digit alone, a Chinese character alone, a word with the space before it, a run of punctuation, or of white space.
# Chinese has no spaces: without its own rule whole sentences would become one token.
PIECES = r"\d|\p{Han}| ?[^\s\d\p{P}\p{Han}]+| ?\p{P}+|\s+"


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Learn merges from `texts`; special tokens and the 256 bytes come first in the vocabulary."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    reserved = [PAD, EOS, BOS, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(reserved), show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned = sorted(learner.get_vocab(), key=lambda token: learner.get_vocab()[token])
    vocabulary = {token: index for index, token in enumerate([*reserved, *learned])}
    return _assembled(vocabulary, _merges(learner))


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]


def _assembled(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    arguments: dict[str, Any] = {"pad_token": PAD, "eos_token": EOS, "bos_token": BOS}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, padding_side="left", **arguments
    )
