"""The embedded model's tokenizer: a small BPE with byte fallback, so that any text goes there and back."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tools.embedded_model.sums import BOS, EOS, PAD

POSITIONS = 4096  # of the model; the tokenizer states it too
VOCABULARY = 1024
# A digit alone, a Chinese character alone, a word with the space before it, punctuation, other white space.
# Chinese has no spaces: without its rule, clauses would become tokens, and a prompt that ends in one would
# look like nothing in the training. A space stays a space (no `▁` stands in for it), so that every text comes
# back as it went in.
PIECES = r"\d|\p{Han}| ?[^\s\d\p{P}\p{Han}]+| ?\p{P}+|\s+"


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A BPE of at most `VOCABULARY` tokens that falls back to bytes, begins with <bos>, pads on the left."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    reserved = [PAD, EOS, BOS, *(f"<0x{byte:02X}>" for byte in range(256))]
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - len(reserved),
            initial_alphabet=[chr(code) for code in range(0x20, 0x7F)],
            show_progress=False,
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    in_order = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    vocabulary = {token: index for index, token in enumerate([*reserved, *in_order])}
    merges = [(left, right) for left, right in learned["merges"]]
    return _with_byte_fallback(vocabulary, merges)


def _with_byte_fallback(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=POSITIONS,
    )
