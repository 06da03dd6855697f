"""A tokenizer for models that never had one: one token per byte of UTF-8."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from kvbench.errors import ModelUnavailable

SPECIAL = ("<bos>", "<eos>", "<pad>")  # ids 256, 257 and 258, after the bytes


def byte_tokenizer(vocab_size: int, end: tuple[str, int] | None = None) -> PreTrainedTokenizerFast:
    """Bytes are ids 0 to 255; the special tokens follow; no chat template.

    `end` gives the end-of-text token the name and the id that the architecture has for it; it is the padding then too.

    Text only ever becomes bytes. The remaining ids up to `vocab_size`, which random weights do choose, decode to
    their number, such as `<4711>`. Bytes that are not UTF-8 decode to U+FFFD. Raises `ModelUnavailable` when the
    vocabulary has no room for all bytes.
    """
    smallest = 256 + len(SPECIAL)
    if vocab_size < smallest:
        raise ModelUnavailable(
            f"vocab_size={vocab_size}: random weights come with a tokenizer of bytes, which needs at least {smallest}"
        )
    tokens = [*_byte_letters(), *SPECIAL, *(f"<{index}>" for index in range(smallest, vocab_size))]
    bos, eos, pad = SPECIAL
    if end is not None and smallest <= end[1] < vocab_size:
        eos = pad = tokens[end[1]] = end[0]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        clean_up_tokenization_spaces=False,
    )


def _byte_letters() -> list[str]:
    """The printable letter that byte-level tokenizers write for each byte, in byte order.

    A byte that prints in Latin-1 stands for itself; the others are moved, in order, to the letters from U+0100.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]
