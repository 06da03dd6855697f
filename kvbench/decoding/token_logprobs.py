"""Log-probabilities of tokens that stand: as decoding gives them, and as one pass over the finished text gives them.

All are natural logarithms, of the raw logits over the temperature, computed in float64: what is compared is the model's
arithmetic, not that of the softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kvbench.decoding.forward import Forward, forward_of, make_batch
from kvbench.decoding.logit_differences import possible
from kvbench.decoding.protocol import PromptBatch
from kvbench.decoding.rounding import OtherOrder, other_orders
from kvbench.decoding.rounding_level import NOT_THE_MODEL
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import is_out_of_memory, reason_of
from kvbench.models.own import OWN_ATTENTION
from kvbench.records.rescoring import Scores, WayTried

AT_ONCE = 64  # positions whose probabilities are in memory together
TEMPERATURES = (1.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4, 1.5)  # that people sample at
MOST_LOGITS = 2**28  # numbers of one pass; of a longer answer several passes are made


def log_probabilities(logits: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """Log-probability (rows,) of each row's `token` (rows,) by `logits` (rows, vocabulary)."""
    precise = _precise(logits.detach())
    return precise.gather(-1, token.unsqueeze(-1)).squeeze(-1) - precise.logsumexp(-1)


def _precise(logits: torch.Tensor) -> torch.Tensor:
    return logits.float() if logits.device.type == "mps" else logits.double()  # which has no float64


@dataclass
class ChosenScores:
    """A trace of a decode: the log-probability of each token that it chose, by its own raw logits."""

    _seen: list[torch.Tensor] = field(default_factory=list)

    def see(self, logits: torch.Tensor, token: torch.Tensor) -> None:
        """Write down one choice: `token` (batch,) out of raw `logits` (batch, vocabulary)."""
        self._seen.append(log_probabilities(logits, token))

    def read(self) -> list[list[float]]:
        """One row per sequence, one number per new token; begins anew."""
        rows: list[list[float]] = torch.stack(self._seen, dim=1).tolist()
        self._seen = []
        return rows


class Followed:
    """A chooser that follows `path` (batch, new tokens) and writes down the log-probability of each of its tokens."""

    def __init__(self, path: torch.Tensor, temperature: float = 1.0) -> None:
        self.path = path
        self.steps = tuple(range(path.shape[1]))
        self._temperature = temperature
        self._scores = ChosenScores()
        self._next = 0

    @property
    def length(self) -> int:
        """New tokens of the path."""
        return len(self.steps)

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - the protocol's shape
        """The path's next token ids (batch,)."""
        token = self.path[:, self._next]
        self._next += 1
        self._scores.see(logits / self._temperature if self._temperature != 1.0 else logits, token)
        return token

    def settled(self, index: int) -> None:
        """None: every token is scored."""

    def read(self) -> list[list[float]]:
        """One row per sequence, one number per token of the path."""
        return self._scores.read()


@dataclass(frozen=True)
class Text:
    """A finished sequence: all its ids, and the places among them of the tokens that decoding chose."""

    ids: tuple[int, ...]
    places: tuple[int, ...]


@dataclass
class _Way:
    order: OtherOrder
    skipped: str = ""


class Rescorer:
    """Scores finished texts by one pass over each, in the usual order of summing, in others, and in a wider type.

    `attention` is the one that passes are made with, `second_attention(batch)` another implementation of the same where
    there is one that fits, `wide` the model in a wider type (`running.wide_model.WideModel`), None where there is none.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        attention: str,
        vocabulary: int,
        *,
        takes_masks: bool,
        second_attention: Callable[[PromptBatch], str | None],
        wide: Any | None = None,
        temperature: float = 1.0,
    ) -> None:
        self._forward = forward_of(model)
        self._device = device
        self._attention = attention
        self._vocabulary = vocabulary
        self._takes_masks = takes_masks
        self._second_attention = second_attention
        self._wide = wide
        self._temperature = temperature
        self._ways: dict[str, _Way] = {}
        self._known: dict[tuple[Text, bool], Scores] = {}
        self.without_wider = ""  # why the wider type turned out to be no reference

    @property
    def ways(self) -> tuple[WayTried, ...]:
        """The other orders of summing so far, with why one could not be tried."""
        return tuple(WayTried(way.order.name, way.order.by_product, way.skipped) for way in self._ways.values())

    def scores(self, text: Text, *, with_noise: bool) -> Scores:
        """One text by one pass; `with_noise` also in other orders of summing. Equal texts are scored once."""
        key = (text, with_noise)
        if key not in self._known:
            self._known[key] = self._scored(text, with_noise)
        return self._known[key]

    def at_temperatures(self, text: Text) -> dict[float, tuple[float, ...]]:
        """What one pass gives at some temperatures, the rescorer's own left out."""
        batch = make_batch(0, [text.ids], 0, self._device)
        return {
            temperature: self._passes(self._forward, batch, text, self._attention, temperature).chosen
            for temperature in TEMPERATURES
            if temperature != self._temperature
        }

    def _scored(self, text: Text, with_noise: bool) -> Scores:
        batch = make_batch(0, [text.ids], 0, self._device)
        plain = self._passes(self._forward, batch, text, self._attention, self._temperature)
        wider = self._in_wider_type(text, plain)
        others: dict[str, tuple[float, ...]] = {}
        if with_noise:
            for order in other_orders(takes_masks=self._takes_masks, second_attention=self._second_attention(batch)):
                way = self._ways.setdefault(order.name, _Way(order))
                if way.skipped:
                    continue
                try:
                    with order.context():
                        other = order.batch(batch)
                        attention = order.attention or self._attention
                        made = self._passes(self._forward, other, text, attention, self._temperature)
                except Exception as failure:  # no such kernel, no memory for it: the others stand
                    way.skipped = f"{type(failure).__name__}: {reason_of(failure)}"
                    continue
                others[order.name] = made.chosen
        return Scores(
            rescored=plain.chosen,
            reference=None if wider is None else wider.chosen,
            weights=plain.weights,
            others=others,
            logit_rms=plain.rms,
            largest_logit=plain.largest,
        )

    def _in_wider_type(self, text: Text, plain: _Made) -> _Made | None:
        """None where there is no wider type, or what came out of it is another computation."""
        if self._wide is None or self.without_wider:
            return None
        name = str(self._wide.dtype).removeprefix("torch.")
        own = self._attention if self._attention in ("sdpa", OWN_ATTENTION) else "eager"
        try:
            moved = make_batch(0, [text.ids], 0, self._wide.device)
            with self._wide.computing() as model:
                made = self._passes(forward_of(model), moved, text, own, self._temperature)
        except Exception as failure:  # whatever it fails with, the texts can be judged without it
            if is_out_of_memory(failure):
                self.without_wider = f"there was no memory for a pass in {name}"
            else:
                self.without_wider = f"the model could not be run in {name} ({type(failure).__name__})"
            return None
        apart = float((made.last_row - plain.last_row).square().mean().sqrt()) / plain.largest
        if not apart < NOT_THE_MODEL:
            self.without_wider = f"in {name} the model computes something else ({apart:.1e} apart)"
            return None
        return made

    def _passes(self, forward: Forward, batch: PromptBatch, text: Text, attention: str, temperature: float) -> _Made:
        """The first row of a batch whose last columns are a text's, scored in as few passes as memory allows."""
        setting = SessionSettings("auto", attention, 0)
        setting.apply(forward.model)
        columns, tokens = batch.input_ids.shape[1], len(text.ids)
        rows = len(batch.lengths)
        ids = torch.tensor(text.ids, device=batch.input_ids.device)
        places = torch.tensor(text.places, device=batch.input_ids.device)
        parts: list[_Made] = []
        with torch.inference_mode(), setting.pinned_backend():
            for some in places.split(max(1, MOST_LOGITS // (rows * self._vocabulary))):
                # The logits of a token are those of the position before it.
                logits = forward.logits_at(batch, some - 1 + columns - tokens)[0]
                parts += _read(logits, ids[some], temperature)
        return _Made.joined(parts)


def _read(logits: torch.Tensor, tokens: torch.Tensor, temperature: float) -> Iterator[_Made]:
    for begin in range(0, len(tokens), AT_ONCE):
        some = _precise(logits[begin : begin + AT_ONCE]) / temperature
        token = tokens[begin : begin + AT_ONCE].unsqueeze(-1)
        whole = some.logsumexp(-1, keepdim=True)
        chosen = some.gather(-1, token) - whole
        shares = (some - whole).exp()
        others = shares.scatter(-1, token, 0.0).square().sum(-1)
        weights = (torch.expm1(chosen.squeeze(-1)).square() + others).sqrt()
        known = possible(some)
        yield _Made(
            tuple(chosen.squeeze(-1).tolist()),
            tuple(weights.tolist()),
            float(known.square().mean().sqrt()),
            float(known.abs().max()),
            known[-1].cpu(),
        )


@dataclass(frozen=True)
class _Made:
    """Positions of one text as they were scored."""

    chosen: tuple[float, ...]
    weights: tuple[float, ...]
    rms: float
    largest: float
    last_row: torch.Tensor  # (vocabulary,): the logits of the last position

    @classmethod
    def joined(cls, parts: Sequence[_Made]) -> _Made:
        count = sum(len(part.chosen) for part in parts)
        return cls(
            tuple(score for part in parts for score in part.chosen),
            tuple(weight for part in parts for weight in part.weights),
            (sum(part.rms**2 * len(part.chosen) for part in parts) / count) ** 0.5,
            max(part.largest for part in parts) or 1.0,
            parts[-1].last_row,
        )
