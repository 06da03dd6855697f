"""What is shown of untimed passes: the shapes that the model returned, and its tokens as texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import torch

from kvbench.decoding.protocol import Unobserved
from kvbench.decoding.streaming import REPLACEMENT, IncrementalText, TextObserver
from kvbench.decoding.tracing import Traced
from kvbench.models.own import OwnPast, OwnTensors
from kvbench.models.signature import returned_cache, signature_of
from kvbench.records.samples import Shapes
from kvbench.records.untimed import TracedPass, TracedToken
from kvbench.running.preconditions import end_ids
from kvbench.running.torch_session import TorchSession

# What the model returned for one prefill and one step, read off its real outputs in an untimed run.


# Dimensions by what a cache layer calls its tensors, and by rank for what it calls otherwise.
KEYS_AND_VALUES = ["batch", "kv_heads", "seq", "head_dim"]
CONVOLUTION = ["batch", "channels", "kernel"]
NO_LABELS = "no labels were given, so there is no loss"
NOT_ASKED = "not asked for (shapes.{0}=true)"
NOT_RETURNED = "asked for, but this architecture or way of decoding returns none"


class Returned:
    """A context in which passes of `model` are described as they come back; also the observer of what decodes there.

    `passes` holds the one that made the first token, which ends the prefill, and the first one after it. With
    `hidden_states` and `attentions` the model is asked for them.
    """

    def __init__(self, model: Any, *, hidden_states: bool, attentions: bool) -> None:
        self._model = model
        self._signature = signature_of(model)
        self._asked = {"output_hidden_states": hidden_states, "output_attentions": attentions}
        self.passes: list[dict[str, Any]] = []
        self._tokens = 0

    def on_token(self, index: int, token_ids: Any) -> None:  # noqa: ARG002 - the observer's shape
        """Count the tokens so far."""
        self._tokens = index + 1

    def __enter__(self) -> Self:
        self._hooks = [
            self._model.register_forward_pre_hook(self._ask, with_kwargs=True),
            self._model.register_forward_hook(self._see, with_kwargs=True),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _ask(self, model: Any, args: Any, kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - torch's shape
        wanted = {name: True for name, asked in self._asked.items() if asked}
        return (args, {**kwargs, **wanted}) if wanted else None

    def _see(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002
        if self._tokens < 2:
            # A prefill in several passes is shown by its last one.
            self.passes[self._tokens :] = [self._described(kwargs["input_ids"], output)]

    def _described(self, input_ids: torch.Tensor, output: Any) -> dict[str, Any]:
        cache = returned_cache(output) if self._signature.state is None else self._returned_state(output)
        parts: dict[str, Any] = {
            "input_ids": _tensor(input_ids, ["batch", "submitted"]),
            "loss": None,
            "loss_reason": NO_LABELS,
            "logits": _tensor(output.logits, ["batch", "positions", "vocabulary"]),
            "cache_layers": [_layer(index, layer) for index, layer in enumerate(cache.layers)] if cache else [],
        }
        for name, dimensions in (
            ("hidden_states", ["batch", "submitted", "hidden"]),
            ("attentions", ["batch", "heads", "submitted", "seq"]),
        ):
            returned = getattr(output, name, None) if self._asked[f"output_{name}"] else None
            tensors = [each for each in returned or () if each is not None]
            parts[name] = [_tensor(each, dimensions) for each in tensors] or None
            if not tensors:
                asked = self._asked[f"output_{name}"]
                parts[f"{name}_reason"] = NOT_RETURNED if asked else NOT_ASKED.format(name)
        return parts

    def _returned_state(self, output: Any) -> OwnPast | None:
        state = getattr(output, str(self._signature.state), None)
        return None if state is None else OwnPast(state)


def shapes(session: TorchSession) -> Shapes:
    """One prefill, and one step of every arm of a run, over its first batch."""
    model, wanted = session.model.loaded.model, session.plan.config.shapes
    found: dict[str, Any] = {}
    prefills: dict[bool, dict[str, Any]] = {}
    for number, arm in enumerate(session.plan.arms):
        if arm.proposes:  # its passes have no one shape
            continue
        decoder = session.decoders.plain(number)
        decoder.prepare(None)
        if wanted.attentions:  # no other implementation returns them; the next `prepare` puts it back
            model.set_attn_implementation("eager")
        with Returned(model, hidden_states=wanted.hidden_states, attentions=wanted.attentions) as returned:
            decoder.run(session.batches[0], 2, returned)
        prefill, step = returned.passes
        prefills.setdefault(arm.keeps_past, prefill)
        found[arm.label if arm.label not in found else f"{arm.label} #{number + 1}"] = step
    # The one that leaves a cache behind says more.
    return Shapes({"prefill": prefills.get(True, prefills.get(False)), **found})


def _tensor(tensor: torch.Tensor, dimensions: list[str]) -> dict[str, Any]:
    return {
        "shape": list(tensor.shape),
        "dimensions": dimensions if len(dimensions) == tensor.ndim else [f"dimension {n}" for n in range(tensor.ndim)],
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "bytes": tensor.numel() * tensor.element_size(),
    }


def _layer(index: int, layer: Any) -> dict[str, Any]:
    tensors = dict(_named_tensors(vars(layer), known=not isinstance(layer, OwnTensors)))
    return {"layer": index, "kind": type(layer).__name__, "tensors": tensors}


def _named_tensors(
    attributes: dict[str, Any], prefix: str = "", *, known: bool = True
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in attributes.items():
        full = f"{prefix}{name}"
        if isinstance(value, torch.Tensor):
            dimensions = CONVOLUTION if full.startswith("conv_states") else KEYS_AND_VALUES
            yield full, _tensor(value, dimensions if known else [])
        elif isinstance(value, dict):
            yield from _named_tensors({str(key): item for key, item in value.items()}, f"{full}.")


# What a run writes, for reading: its text before anything is timed, and each token with its confidence.


SHOWN_PROMPTS = 4  # enough to see what the model does; the rest is in the record
SHOWN_TOKENS = 96  # a paragraph; a large model without a cache should not be waited for


def show_text(session: TorchSession, say: Callable[[str, str], None]) -> None:
    """Write some prompts' continuations, untimed: calls `say(kind, text)` with kind prompt, piece or end.

    They stop at the tokenizer's end, whatever the timed runs do: it is for reading.
    """
    plan, model = session.plan, session.model
    stop_ids = session.stop_ids or end_ids(model.loaded)
    arm = next((index for index, spec in enumerate(plan.arms) if spec.mode == "cached"), 0)
    tokens = min(plan.config.workload.new_tokens, SHOWN_TOKENS)
    for prompt in session.prepared.prompts[:SHOWN_PROMPTS]:
        say("prompt", prompt["text"])
        text = IncrementalText(model.text)
        observer = TextObserver(text, plan.config.stream.interval, stop_ids, lambda piece: say("piece", piece))
        decoder = session.decoders.unprepared(arm)
        decoder.prepare(None)
        decoder.run(session.batches.batch(0, [prompt["token_ids"]], tokens), tokens, observer, stop_ids)
        observer.finish()
        say("end", "")


def traced_pass(session: TorchSession, arm: int) -> TracedPass:
    """An arm over every batch with the confidence of each new token observed instead of its time."""
    sequences: list[tuple[TracedToken, ...]] = []
    texts = TokenTexts(session.model.loaded.tokenizer)
    for batch in session.batches:
        decoder = session.decoders.traced(arm)
        decoder.prepare(None)
        decoded = decoder.run(batch, session.plan.config.workload.new_tokens, Unobserved(), session.stop_ids)
        assert decoded.trace is not None
        sequences += traced_sequences(decoded.sequences(session.stop_ids), decoded.trace, texts)
    return TracedPass(arm, tuple(sequences))


class TokenTexts:
    """What a tokenizer's tokens say, within a text and by themselves."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._own: dict[int, str] = {}

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """One piece a token; joined they are the text of `ids` without special tokens."""
        text = IncrementalText(lambda some: str(self._tokenizer.decode(list(some), skip_special_tokens=True)))
        pieces = [text.add([token]) for token in ids]
        if pieces:
            pieces[-1] += text.finish()
        return pieces

    def own(self, token: int) -> str:
        """The token's own text with the space that it begins with; its name where it is no text by itself."""
        if token not in self._own:
            self._own[token] = self._read(token)
        return self._own[token]

    def _read(self, token: int) -> str:
        once, twice = (str(self._tokenizer.decode([token] * times)) for times in (1, 2))
        text = twice[len(once) :]  # of the second one: many tokenizers drop the space at the beginning of a text
        if text and REPLACEMENT not in text:
            return text
        name = self._tokenizer.convert_ids_to_tokens(token)
        return once if name is None else str(name)  # None: an id past the vocabulary, which padded models can write


def traced_sequences(
    new_ids: Sequence[Sequence[int]], traced: Traced, texts: TokenTexts
) -> list[tuple[TracedToken, ...]]:
    """The tokens of a batch; what was traced after the end of a sequence is left out."""
    probability, rank, entropy = traced.probability.tolist(), traced.rank.tolist(), traced.entropy_nats.tolist()
    top_ids, top_probability = traced.top_ids.tolist(), traced.top_probability.tolist()
    return [
        tuple(
            TracedToken(
                token_id=token,
                text=piece,
                probability=_finite(probability[row][step]),
                rank=rank[row][step],
                entropy_nats=_finite(entropy[row][step]),
                alternatives=tuple(
                    (other, texts.own(other), share)
                    for other, share in zip(top_ids[row][step], top_probability[row][step], strict=True)
                    if math.isfinite(share)
                ),
            )
            for step, (token, piece) in enumerate(zip(ids, texts.pieces(ids), strict=True))
        )
        for row, ids in enumerate(new_ids)
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
