"""Yuan 2.0 with localized filtering-based attention (LFA), as a native transformers model.

From the paper, "YUAN 2.0: A Large Language Model with Localized Filtering-based Attention" (arXiv:2311.15786), and the
tensors of the published checkpoint. A layer filters its normed input with two causal convolutions of width 2 before it
makes queries and keys; values come from the unfiltered input. So a layer's state is more than keys and values, and all
of it lives in the caller's transformers cache (layers of type "hybrid"):

- keys and values, (batch, heads, seq, head_dim);
- convolution state 0: the last two normed inputs, (batch, hidden, 2), what the two convolutions together look back on;
- convolution state 1, when `<eod>` separates documents: the first column that the next token may see, (batch, 1, 1).
  The first layer's is the one that counts; the others hold one because stock caches crop all states of all layers.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from kvbench.models.signature import library_cache, returned_cache
from kvbench.models.yuan_config import YuanConfig

FILTER_EPS = 1e-6  # of the filter's norm, whatever `rms_norm_eps` says
LOOK_BACK = 2  # normed inputs before a token that its filter depends on: one for each convolution
INPUTS, FIRST_VISIBLE = 0, 1  # convolution states of a cache layer


def rotary_frequencies(config: YuanConfig, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Angles per position of rotary position embedding (arXiv:2104.09864), (head_dim / 2,)."""
    exponents = torch.arange(0, config.head_dim, 2, device=device, dtype=dtype) / config.head_dim
    return config.rope_theta**-exponents


def _rotation(positions: torch.Tensor, config: YuanConfig, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """`positions` (batch or 1, seq) to cosines and sines, each (batch or 1, seq, 1, 1, head_dim).

    The first half of the sines is negated, for `_rotate`. The frequencies are made anew, in float32 or wider: as a
    buffer they would be rounded by `model.half()`.
    """
    wide = torch.promote_types(dtype, torch.float32)
    angles = positions[:, :, None, None, None] * rotary_frequencies(config, positions.device, wide)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """(…, head_dim): each number is turned with the one half a head away, x·cos + swapped(x)·sin."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


class YuanPairConv(nn.Conv2d):
    """A causal convolution of width 2 as one matrix product over pairs of neighbours.

    The parameter keeps the checkpoint's shape (out, in, 2, 1). A convolution kernel would plan anew for every length;
    and with channels last in memory the matrix is a view of the parameter.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=(2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, seq + 1, in) to (batch, seq, out): the output at i comes from the inputs i and i + 1."""
        pairs = torch.cat([x[:, :-1], x[:, 1:]], dim=-1)
        return functional.linear(pairs, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)


class YuanFilter(nn.Module):
    """Localized filtering: two causal convolutions of width 2, a residual, a norm."""

    def __init__(self, config: YuanConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.conv1 = YuanPairConv(size, size // 2)
        self.conv2 = YuanPairConv(size // 2, size)
        self.output_layernorm = nn.RMSNorm(size, FILTER_EPS)

    def forward(self, x: torch.Tensor, window: torch.Tensor | None, real: torch.Tensor | None) -> torch.Tensor:
        """(batch, seq, hidden) to the same.

        `window` (batch, 2 + seq, hidden) is `x` behind the two inputs that went before, zeros where there were none; it
        is None at the very beginning. `real` (batch, 1 + seq, 1) is 0 where a token, from the one before the first on,
        is padding.
        """
        if window is None:
            inner = self.conv1(functional.pad(x, (0, 0, 1, 0)))
            inner = functional.pad(inner, (0, 0, 1, 0))  # nothing lies before the first token: zero, not conv1's bias
        else:
            inner = self.conv1(window)
        if real is not None:
            inner = inner * real
        filtered: torch.Tensor = self.output_layernorm(self.conv2(inner) + x)
        return filtered


class YuanAttention(nn.Module):
    """Queries and keys of the filtered input, values of the unfiltered one."""

    def __init__(self, config: YuanConfig, layer_idx: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.scaling = config.head_dim**-0.5
        self.is_causal = True
        self.q_proj = nn.Linear(size, size, bias=False)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size, bias=False)
        self.o_proj = nn.Linear(size, size, bias=False)
        self.lf_gate = YuanFilter(config)

    def forward(
        self,
        x: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        mask: Any,
        real: torch.Tensor | None,
        cache: Cache | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, seq, hidden) to the same, and the attention weights where the implementation has them."""
        batch, seq, size = x.shape
        if real is not None:
            x = x * real[:, 1:]
        filtered = self.lf_gate(x, _remember(cache, self.layer_idx, x), real)
        # Queries and keys are laid side by side before they are cut into heads: a head of queries is made of both.
        mixed = torch.cat([self.q_proj(filtered), self.k_proj(filtered)], dim=-1)
        rotated = _rotate(mixed.view(batch, seq, -1, 2, self.head_dim), *rotary)
        queries, keys = rotated.transpose(1, 2).unbind(3)
        values = self.v_proj(x).view(batch, seq, -1, self.head_dim).transpose(1, 2)
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, _eager_attention)
        output, weights = attend(self, queries, keys, values, mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.o_proj(output.reshape(batch, seq, size)), weights


def _remember(cache: Cache | None, layer_idx: int, x: torch.Tensor) -> torch.Tensor | None:
    """Add `x` to the layer's state; the filter's window, (batch, 2 + seq, hidden), or None at the beginning."""
    if cache is None:
        return None
    begun = cache.has_previous_state(layer_idx, INPUTS)
    seen = cache.update_conv_state(x.transpose(1, 2), layer_idx, state_idx=INPUTS, conv_kernel_size=LOOK_BACK)
    before = seen.shape[-1] - x.shape[1]
    if not begun or not before:
        return None
    # A cache that records its past keeps more than two, or at first fewer.
    if before < LOOK_BACK:
        seen = functional.pad(seen, (LOOK_BACK - before, 0))
    return seen[..., -(LOOK_BACK + x.shape[1]) :].transpose(1, 2)


def _eager_attention(
    module: nn.Module,  # noqa: ARG001 - the interface's shape
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    **kwargs: Any,  # noqa: ARG001
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = queries @ keys.transpose(2, 3) * scaling
    if mask is not None:
        scores = scores + mask
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(dim=-1, dtype=wide).to(queries.dtype)
    return (weights @ values).transpose(1, 2), weights


class YuanMLP(nn.Module):
    """A gated feed-forward layer; unlike elsewhere the activation is on the up projection, not on the gate."""

    def __init__(self, config: YuanConfig) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.up_proj = nn.Linear(size, inner, bias=False)
        self.gate_proj = nn.Linear(size, inner, bias=False)
        self.down_proj = nn.Linear(inner, size, bias=False)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, seq, hidden) to the same."""
        output: torch.Tensor = self.down_proj(self.gate_proj(x) * self.activation(self.up_proj(x)))
        return output


class YuanDecoderLayer(GradientCheckpointingLayer):
    """Attention and feed-forward, each behind a norm and with a residual."""

    def __init__(self, config: YuanConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = YuanAttention(config, layer_idx)
        self.mlp = YuanMLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """(batch, seq, hidden) to the same; `kwargs` are `YuanAttention.forward`'s."""
        attended, _ = self.self_attn(self.input_layernorm(x), **kwargs)
        x = x + attended
        output: torch.Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return output


class YuanPreTrainedModel(PreTrainedModel):
    """What transformers wants to know about Yuan's modules."""

    config: YuanConfig
    config_class = YuanConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["YuanDecoderLayer"]  # noqa: RUF012 - transformers reads these from the class
    _skip_keys_device_placement = ["cache"]  # noqa: RUF012
    # The published checkpoint stores each layer's rotary frequencies, which follow from the config.
    _keys_to_ignore_on_load_unexpected = [r"self_attn\.rotary_emb\.inv_freq$"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _is_stateful = True  # a cache without recorded past cannot be cropped
    _can_record_outputs = {"hidden_states": YuanDecoderLayer, "attentions": YuanAttention}  # noqa: RUF012


def _handed(cache: Cache | None, kwargs: dict[str, Any]) -> Cache | None:
    """The cache that a caller handed in, which transformers before 5.24 does by its older name."""
    older = kwargs.pop("past_key_values", None)
    return older if cache is None else cache


class YuanModel(YuanPreTrainedModel):
    """The decoder without its head."""

    def __init__(self, config: YuanConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(YuanDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """`input_ids` (batch, seq); `attention_mask` (batch, past + seq), 0 where a token is padding.

        Raises `ValueError` for a cache that was not built from this model's config, a mask of another rank, or
        embeddings in place of ids where `<eod>` must be recognised.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if attention_mask is not None and attention_mask.ndim != 2:
            raise ValueError("attention_mask must be (batch, past + seq): the filter has to know what is padding")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = _handed(cache, kwargs)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if cache is not None and not hasattr(next(iter(cache.layers), None), "conv_states"):
            raise ValueError("build the cache from this model's config, such as DynamicCache(config=model.config)")
        past = 0 if cache is None else cache.get_seq_length()
        columns = past + torch.arange(x.shape[1], device=x.device)
        if position_ids is None:
            position_ids = columns.unsqueeze(0)
        mask = self._mask(input_ids, x, attention_mask, cache, columns)
        real = None
        if attention_mask is not None:
            around = torch.cat([(columns[:1] - 1).clamp(min=0), columns])
            real = attention_mask.index_select(1, around).unsqueeze(-1).to(x.dtype)
        rotary = _rotation(position_ids, self.config, x.dtype)
        for layer in self.layers:
            x = layer(x, rotary=rotary, mask=mask, real=real, cache=cache, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(x), **library_cache(cache))

    def _mask(
        self,
        input_ids: torch.Tensor | None,
        x: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cache: Cache | None,
        columns: torch.Tensor,
    ) -> Any:
        """The causal mask, and where `<eod>` separates documents, within the document.

        It is then always a tensor: to leave it out where no `<eod>` is in sight, the host would have to look.
        """
        if self.config.separates_documents:
            if input_ids is None:
                raise ValueError("inputs_embeds do not tell where <eod> is: give input_ids")
            first = _first_visible(input_ids == self.config.eod_token, columns, cache)
            return self._document_mask(first, columns, attention_mask, cache, x.dtype)
        return create_causal_mask(
            config=self.config, inputs_embeds=x, attention_mask=attention_mask, **library_cache(cache)
        )

    def _document_mask(
        self,
        first: torch.Tensor,
        columns: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cache: Cache | None,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """What each token sees, (batch, 1, seq, keys): boolean, or for eager attention what is added to the scores."""
        seq = len(columns)
        length = seq if cache is None else cache.get_mask_sizes(seq, 0)[0]  # a static cache has room to come
        keys = torch.arange(length, device=columns.device)
        seen = (keys <= columns[:, None]) & (keys >= first[:, :, None])
        if attention_mask is not None:
            real = functional.pad(attention_mask.bool(), (0, max(0, length - attention_mask.shape[1])))[:, :length]
            # Padding sees itself: a row of attention with nothing to see would not be a number.
            seen = seen & (real[:, None, :] | (keys == columns[:, None]))
        seen = seen[:, None]
        if self.config._attn_implementation == "eager":
            return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        return seen


def _first_visible(ends: torch.Tensor, columns: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """The first column that each token may see, (batch, seq), from where `<eod>`s are; the cache carries it on.

    An `<eod>` itself still belongs to the document that it ends.
    """
    # The first column that may be seen *after* each token.
    after = torch.where(ends, columns + 1, 0).cummax(dim=1).values
    carried = after.new_zeros((len(after), 1))
    if cache is not None:
        if cache.has_previous_state(0, FIRST_VISIBLE):
            state = cast(Any, cache.layers[0]).conv_states[FIRST_VISIBLE]
            carried = torch.cat([carried, state[:, 0]], dim=1).amax(dim=1, keepdim=True)
        after = torch.maximum(after, carried)
        for layer_idx in range(len(cache.layers)):
            if layer_idx == 0 or not cache.has_previous_state(layer_idx, FIRST_VISIBLE):
                cache.update_conv_state(after.unsqueeze(1), layer_idx, state_idx=FIRST_VISIBLE, conv_kernel_size=1)
    return torch.cat([carried, after[:, :-1]], dim=1)


class YuanForCausalLM(YuanPreTrainedModel, GenerationMixin):
    """Yuan 2.0 with its language modelling head, tied to the embeddings where the config says so."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: YuanConfig) -> None:
        super().__init__(config)
        self.model = YuanModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As `YuanModel.forward`; `logits_to_keep` positions from the end get logits, 0 means all, or those it holds.

        `labels` (batch, seq) give the mean cross entropy of predicting each next token; -100 is left out.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=_handed(cache, kwargs),
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **library_cache(returned_cache(outputs)),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @staticmethod
    def create_masks_for_generate(attention_mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor | None:  # noqa: ARG004
        """Leaves `generate`'s mask as it is: the filter has to know what is padding."""
        return attention_mask
