"""Text for models that bring no tokenizer: bytes, the user's own functions, or none at all."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from kvbench.errors import ModelUnavailable, PromptError
from kvbench.records.evidence import RunWarning

# A tokenizer for models that never had one: one token per byte of UTF-8.


BYTES = 256
SPECIAL = ("<bos>", "<eos>", "<pad>")  # ids 256, 257 and 258, after the bytes


def byte_tokenizer(vocab_size: int, end: tuple[str, int] | None = None) -> PreTrainedTokenizerFast:
    """Bytes are ids 0 to 255; the special tokens follow; no chat template.

    `end` gives the end-of-text token the name and the id that the architecture has for it; it is the padding then too.

    Text only ever becomes bytes. The remaining ids up to `vocab_size`, which random weights do choose, decode to
    their number, such as `<4711>`. Bytes that are not UTF-8 decode to U+FFFD. Raises `ModelUnavailable` when the
    vocabulary has no room for all bytes.
    """
    smallest = BYTES + len(SPECIAL)
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
    return [chr(byte if byte in printable else next(moved)) for byte in range(BYTES)]


# Text for a model of the user's own: through its own `encode` and `decode`, or as bytes.


class OwnTokenizer(ABC):
    """What the program asks of a transformers tokenizer; there are no special tokens."""

    pad_token_id: int | None = None
    eos_token_id: int | None = None
    eos_token: str | None = None

    @abstractmethod
    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""

    @abstractmethod
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids."""

    def get_vocab(self) -> dict[str, int]:
        """Texts of tokens are not known."""
        return {}

    def convert_ids_to_tokens(self, token: int) -> str:
        """The name of a token that is no text by itself."""
        return f"<{token}>"


class OfferedText(OwnTokenizer):
    """The model's own `encode` and `decode`. Raises `PromptError` for text that it cannot read."""

    def __init__(self, encode: Callable[[str], Any], decode: Callable[[list[int]], Any], vocab_size: int) -> None:
        self._encode = encode
        self._decode = decode
        self._vocab_size = vocab_size

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:  # noqa: ARG002 - there are none
        """Token ids of a text, by the model's own `encode`."""
        if not text:
            return []
        try:
            ids = [int(token) for token in self._encode(text)]
        except Exception as error:
            raise PromptError(
                f"the model's encode() raised {type(error).__name__}: {error} for {text[:20]!r}: give it text that it"
                " can read, by workload.prompt or workload.prompts"
            ) from error
        beyond = next((token for token in ids if not 0 <= token < self._vocab_size), None)
        if beyond is not None:
            raise PromptError(f"the model's encode() gave {beyond}, outside of its vocabulary of {self._vocab_size}")
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:  # noqa: ARG002 - there are none
        """The text of token ids; ids that it cannot write, which an untrained model does choose, by number."""
        try:
            return str(self._decode(list(ids)))
        except Exception:
            return "".join(f"<{token}>" for token in ids)


class FoldedBytes(OwnTokenizer):
    """One id a byte of UTF-8, modulo the vocabulary. Ids are bytes where the vocabulary has room for all."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:  # noqa: ARG002 - there are none
        """The bytes of a text in UTF-8, as token ids."""
        return [byte % self._vocab_size for byte in text.encode("utf-8", "replace")]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:  # noqa: ARG002 - there are none
        """The text of bytes; ids that stand for no byte by number."""
        whole = self._vocab_size >= BYTES
        written = b"".join(bytes([token]) if whole and token < BYTES else f"<{token}>".encode() for token in ids)
        return written.decode("utf-8", "replace")

    @property
    def remark(self) -> str:
        """What a reader should know of these ids."""
        text = "the model offers no encode() and decode(), so token ids are the bytes of the prompts"
        if self._vocab_size >= BYTES:
            return text
        return f"{text} modulo its vocabulary of {self._vocab_size}: times and verdicts hold, the text means nothing"


def own_text(own: Any, vocab_size: int, where: str) -> OwnTokenizer:
    """The tokenizer of an own model. Raises `ModelUnavailable` when it offers half of one."""
    encode, decode = (getattr(own, name, None) for name in ("encode", "decode"))
    if callable(encode) != callable(decode):
        lacking = "decode" if callable(encode) else "encode"
        raise ModelUnavailable(f"{where}: has no {lacking}(); offer both encode() and decode(), or neither")
    return OfferedText(encode, decode, vocab_size) if encode and decode else FoldedBytes(vocab_size)


# A model without a tokenizer: it decodes from token ids, and what it writes has no text.


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
