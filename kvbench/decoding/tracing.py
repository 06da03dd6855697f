"""Token confidence: what the model itself thought of every token that was chosen.

The figures are those of the raw logits, softmaxed in float32 before temperature, top-p, top-k or penalties: they tell
how sure the model was, not how likely the sampler's draw. Everything is computed on the device and read once, at the
end of a run, so tracing adds work to a step but no wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from kvbench.decoding.protocol import Chooser, Decoded, Decoder, Observer, PromptBatch


@dataclass(frozen=True)
class Traced:
    """One run, on the host: every property is (batch, steps) or (batch, steps, k).

    `probability` is the chosen token's; `rank` is 1 plus the tokens that the model found strictly likelier;
    `entropy_nats` that of the whole distribution; `top_*` are the k likeliest tokens, the chosen one included when it
    is among them, likeliest first.
    """

    floats: torch.Tensor  # (batch, steps, 2 + k): probability, entropy, probabilities of the likeliest
    whole: torch.Tensor  # (batch, steps, 1 + k): rank, ids of the likeliest

    @property
    def probability(self) -> torch.Tensor:
        """Of the chosen token."""
        return self.floats[..., 0]

    @property
    def rank(self) -> torch.Tensor:
        """1 is the likeliest; equal ones share the better rank."""
        return self.whole[..., 0]

    @property
    def entropy_nats(self) -> torch.Tensor:
        """Of the whole distribution."""
        return self.floats[..., 1]

    @property
    def top_ids(self) -> torch.Tensor:
        """The likeliest tokens."""
        return self.whole[..., 1:]

    @property
    def top_probability(self) -> torch.Tensor:
        """Their probabilities."""
        return self.floats[..., 2:]


@dataclass
class Trace:
    """Collects one run: tensors on the device until they are read."""

    top_k: int
    _floats: list[torch.Tensor] = field(default_factory=list)
    _whole: list[torch.Tensor] = field(default_factory=list)

    def see(self, logits: torch.Tensor, token: torch.Tensor) -> None:
        """Write down one choice: `token` (batch,) out of raw `logits` (batch, vocabulary)."""
        logits = logits.detach().to(torch.float32)
        chosen = token.unsqueeze(1)
        shares = logits.softmax(dim=-1)
        # `entr` is 0 at a share of 0, where p · log p would be NaN: some models rule tokens out with -inf.
        entropy = torch.special.entr(shares).sum(dim=-1, keepdim=True)
        rank = 1 + (logits > logits.gather(1, chosen)).sum(dim=-1, keepdim=True)
        top = shares.topk(min(self.top_k, shares.shape[1]), dim=-1)
        self._floats.append(torch.cat([shares.gather(1, chosen), entropy, top.values], dim=1))
        self._whole.append(torch.cat([rank, top.indices], dim=1))

    def read(self) -> Traced:
        """Everything seen so far, moved to the host in two copies; begins anew."""
        traced = Traced(torch.stack(self._floats, dim=1).cpu(), torch.stack(self._whole, dim=1).cpu())
        self._floats, self._whole = [], []
        return traced


class SeesChoices(Protocol):
    """What may look at every choice of a decode."""

    def see(self, logits: torch.Tensor, token: torch.Tensor) -> None:
        """One choice: `token` (batch,) out of raw `logits` (batch, vocabulary)."""

    def read(self) -> Any:
        """Everything seen so far, on the host; begins anew."""


@dataclass(frozen=True)
class TracingChooser:
    """Chooses as `chooser` does and has `trace` see every choice: how the hand-written loops are traced."""

    chooser: Chooser
    trace: SeesChoices

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """What the chooser takes, (batch,), seen by the trace on the way."""
        token = self.chooser.choose(ids, logits)
        self.trace.see(logits, token)
        return token

    def settled(self, index: int) -> None:
        """None: every token is traced."""


@dataclass(frozen=True)
class TracedDecoder:
    """A decoder whose choices `trace` sees; hands the figures over with what was decoded.

    Reading the trace belongs to the run: whoever times it, times the whole cost.
    """

    decoder: Decoder
    trace: SeesChoices

    def prepare(self, block: int | None) -> None:
        """Prepares the decoder that is traced."""
        self.decoder.prepare(block)

    def run(self, batch: PromptBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """Decodes as the traced decoder does, and reads the trace at the end."""
        decoded = self.decoder.run(batch, new_tokens, observer, stop_ids)
        return replace(decoded, trace=self.trace.read())


@dataclass(frozen=True)
class WatchedDecoder:
    """A decoder that lets nobody choose, such as transformers' `generate`, with a trace of what it chose.

    The logits are taken where the model hands them out, which is before any processor of `generate` sees them.
    """

    decoder: Decoder
    model: Any
    trace: SeesChoices

    def prepare(self, block: int | None) -> None:
        """Prepares the decoder that is watched."""
        self.decoder.prepare(block)

    def run(self, batch: PromptBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """Decodes as the watched decoder does, with a hook on the model while it lasts."""
        watching = _Watching(observer, self.trace)
        hook = self.model.register_forward_hook(watching.on_forward)
        try:
            return self.decoder.run(batch, new_tokens, watching, stop_ids)
        finally:
            hook.remove()


class _Watching:
    """Brings together a forward pass's last logits and the token that the observer is told of next."""

    def __init__(self, observer: Observer, trace: SeesChoices) -> None:
        self._observer = observer
        self._trace = trace

    def on_forward(self, model: Any, args: Any, output: Any) -> None:  # noqa: ARG002 - torch's shape
        self._logits = output.logits[:, -1]

    def on_token(self, index: int, token_ids: Any) -> None:
        self._trace.see(self._logits, token_ids)  # first: the observer may end a timed region here
        self._observer.on_token(index, token_ids)
