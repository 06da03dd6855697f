"""The configuration of Yuan 2.0 models, and their tokenizer."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import LlamaTokenizer, PreTrainedConfig


@strict
class YuanConfig(PreTrainedConfig):
    """Defaults are the published 2B checkpoint's (IEITYuan/Yuan2-2B-hf).

    `reset_attention_mask` and `reset_position_ids`, when both are set, hide everything up to and including an
    `eod_token` from the tokens after it; positions go on counting all the same. `dropout` and `use_loss_mask` are
    settings of its training and are kept unused. Raises `ValueError` for a shape that cannot be built.
    """

    model_type = "yuan"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # noqa: RUF012 - transformers reads it from the class

    vocab_size: int = 135040
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    hidden_act: str = "silu"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    use_cache: bool = True
    pad_token_id: int | None = 77185
    bos_token_id: int | None = 77185
    eos_token_id: int | list[int] | None = 77185
    eod_token: int = 77185
    sep_token: int | None = 77187
    tie_word_embeddings: bool = True
    causal_mask: bool = True
    use_flash_attention: bool = False
    reset_attention_mask: bool = True
    reset_position_ids: bool = True
    use_loss_mask: bool = False
    dropout: float = 0.1

    def __post_init__(self, **kwargs: Any) -> None:
        # What a cache built from this config must hold: keys and values besides the filter's states (see yuan.py).
        self.layer_types = ["hybrid"] * self.num_hidden_layers
        self.number_of_conv_states = 2 if self.separates_documents else 1
        super().__post_init__(**kwargs)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def separates_documents(self) -> bool:
        """Whether tokens after an `eod_token` are kept from seeing what lies before it."""
        return self.reset_attention_mask and self.reset_position_ids

    def validate_architecture(self) -> None:
        """Called by `@strict`; see the class."""
        if self.hidden_size % self.num_attention_heads or self.head_dim % 2 or self.hidden_size % 2:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be even and split into {self.num_attention_heads} heads of even"
                " width"
            )
        if not self.causal_mask:
            raise ValueError("causal_mask=false: only causal models are built")


# The tokenizer of Yuan 2.0's own folder: LLaMA's sentencepiece kind with other special tokens.


class YuanTokenizer(LlamaTokenizer):
    """What config.json names as "YuanTokenizer": nothing is added to a text, and `<eod>` ends a document."""

    def __init__(self, vocab: Any = None, merges: Any = None, **named: Any) -> None:
        own = {"eos_token": "<eod>", "add_bos_token": False, "add_eos_token": False}
        super().__init__(vocab, merges, **{**own, **named})
