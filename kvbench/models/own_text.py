"""Text for a model of the user's own: through its own `encode` and `decode`, or as bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from kvbench.errors import ModelUnavailable, PromptError

BYTES = 256


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
        """See `OwnTokenizer.encode`."""
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
        """See `OwnTokenizer.decode`; ids that it cannot write, which an untrained model does choose, by number."""
        try:
            return str(self._decode(list(ids)))
        except Exception:
            return "".join(f"<{token}>" for token in ids)


class FoldedBytes(OwnTokenizer):
    """One id a byte of UTF-8, modulo the vocabulary. Ids are bytes where the vocabulary has room for all."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:  # noqa: ARG002 - there are none
        """See `OwnTokenizer.encode`."""
        return [byte % self._vocab_size for byte in text.encode("utf-8", "replace")]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:  # noqa: ARG002 - there are none
        """See `OwnTokenizer.decode`; ids that stand for no byte by number."""
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
