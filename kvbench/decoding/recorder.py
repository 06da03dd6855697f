"""Records what really reaches a model in untimed passes, independent of the decoder that is checked."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from statistics import median_high
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kvbench.decoding.caches import logical_bytes
from kvbench.decoding.protocol import Pass
from kvbench.models.own import OwnCausalLM, OwnPast
from kvbench.models.signature import handed_cache, signature_of

# An independent eye on what really reaches a model, for untimed passes of every decoder, `generate` included.


class PassRecorder:
    """A context in which every forward pass of `model` is written down.

    `passes` holds what was submitted; `kv_bytes` the bytes of the cache that was handed in, after each pass (0: none);
    `allocated` what the allocator held then, as `allocated_bytes` tells it.
    """

    def __init__(self, model: Any, allocated_bytes: Callable[[], int | None]) -> None:
        self._model = model
        self._allocated_bytes = allocated_bytes
        self.passes: list[Pass] = []
        self.rows: list[int] = []  # sequences of each pass
        self.kv_bytes: list[int] = []
        self.allocated: list[int | None] = []

    def __enter__(self) -> Self:
        self._before = self._model.register_forward_pre_hook(self._see_inputs, with_kwargs=True)
        self._after = self._model.register_forward_hook(self._see_cache, with_kwargs=True)
        return self

    @property
    def unseen(self) -> tuple[str, ...]:
        """What could not be looked at, in words."""
        return ()

    @property
    def state(self) -> OwnPast | None:
        """What the last pass returned of a state that the model makes itself; None for any other model."""
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._before.remove()
        self._after.remove()

    def _see_inputs(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - torch's shape
        cache = handed_cache(kwargs)
        self.rows.append(kwargs["input_ids"].shape[0])
        self._past = _length(cache)

    def _see_cache(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002
        cache = handed_cache(kwargs)
        self.passes.append(Pass(kwargs["input_ids"].shape[1], self._past, _length(cache)))
        self.kv_bytes.append(0 if cache is None else logical_bytes(cache))
        self.allocated.append(self._allocated_bytes())


class ProposalRecorder(PassRecorder):
    """A `PassRecorder` of a model that checks proposed tokens, and of the draft that proposes them, if there is one.

    `rounds` has the draft's passes before each pass of the model, `draft_kv_bytes` the most that its cache held.
    """

    def __init__(self, model: Any, allocated_bytes: Callable[[], int | None], draft: Any | None) -> None:
        super().__init__(model, allocated_bytes)
        self._draft = None if draft is None else PassRecorder(draft, allocated_bytes)
        self._rounds: list[tuple[Pass, ...]] = []

    @property
    def rounds(self) -> list[tuple[Pass, ...]] | None:
        """None without a draft."""
        return None if self._draft is None else self._rounds

    @property
    def draft_kv_bytes(self) -> int | None:
        """None without a draft."""
        return None if self._draft is None else max(self._draft.kv_bytes, default=0)

    def __enter__(self) -> Self:
        if self._draft is not None:
            self._draft.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._draft is not None:
            self._draft.__exit__(kind, error, trace)

    def _see_inputs(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        super()._see_inputs(model, args, kwargs)
        if self._draft is not None:
            self._rounds.append(tuple(self._draft.passes))
            self._draft.passes = []


def _length(cache: Any | None) -> int | None:
    """Tokens that a cache says it holds; None without one, or for a state that counts none."""
    try:
        return None if cache is None else int(cache.get_seq_length())
    except (AttributeError, ValueError):  # a state of the model's own, or transformers' layers for recurrent ones
        return None


class StateRecorder(PassRecorder):
    """A `PassRecorder` for a model that makes its state itself (`ForwardSignature.state`), of an arm that keeps a past.

    Such states count no tokens, or count them where nobody reads it. So it is watched which state is handed in: the
    one that the last pass returned holds all tokens so far, one that holds nothing none, and of any other it is not
    known.
    """

    def __init__(self, model: Any, allocated_bytes: Callable[[], int | None], state: str) -> None:
        super().__init__(model, allocated_bytes)
        self._name = state
        self._state: Any | None = None
        self._held: int | None = 0  # tokens in that state

    @property
    def state(self) -> OwnPast | None:
        """What the last pass returned."""
        return None if self._state is None else OwnPast(self._state)

    def _see_inputs(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:  # noqa: ARG002
        handed = kwargs.get(self._name)
        if handed is not None and handed is self._state:
            self._past = self._held
        else:
            self._past = None if handed is not None and logical_bytes(OwnPast(handed)) else 0

    def _see_cache(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002
        submitted = kwargs["input_ids"].shape[1]
        self._state = getattr(output, self._name, None)
        self._held = None if self._state is None or self._past is None else self._past + submitted
        self.passes.append(Pass(submitted, self._past, self._held))
        self.kv_bytes.append(0 if self._state is None else logical_bytes(OwnPast(self._state)))
        self.allocated.append(self._allocated_bytes())


# An eye on the inside of a model of the user's own: how many positions its weights really met in a pass.
# What is handed to such a model proves little: it may join the one new token to ids that it has kept, and run them
# all. So its operators are watched: look-ups in embedding tables, and products with a matrix that has no batch
# dimension, which are its weights. A product through einsum, a batched matrix or a kernel of its own is not seen,
# nor what a captured graph replays; a pass in which nothing was seen is told, not judged.


NO_LENGTH = "the cache tells no length (get_seq_length(), length or len()), so its growth was not checked"
NOT_A_LENGTH = "what the cache tells as its length is none (a capacity, or layers), so its growth was not checked"
NOTHING_SEEN = "no embedding or product with weights was seen in the model: whether it computes all again is not known"


class CustomModelProbe(PassRecorder):
    """A `PassRecorder` whose passes hold what the model computed and what the cache says, not what they were told.

    A cached pass counts as submitting the positions of its middle product when those repeat more than half of the
    past: a model may project a kept state anew, or pad a little, and still use its cache. A pass without a past counts
    as submitting the most positions of any product when they fall short of the context: something was kept elsewhere.
    """

    def __enter__(self) -> Self:
        self._told: set[str] = set()
        self._operators = WeightOperators()
        self._operators.__enter__()  # type: ignore[no-untyped-call]
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._operators.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    @property
    def unseen(self) -> tuple[str, ...]:
        """What could only be told of the passes, and not seen."""
        return tuple(sorted(self._told))

    def _see_inputs(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        super()._see_inputs(model, args, kwargs)
        self._stated = _stated(handed_cache(kwargs))
        self._operators.rows = kwargs["input_ids"].shape[0]
        self._operators.positions = []

    def _see_cache(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        super()._see_cache(model, args, kwargs, output)
        positions, told = self._operators.positions, self.passes[-1]
        if not positions:
            self._told.add(NOTHING_SEEN)
        cache = handed_cache(kwargs)
        if cache is None:
            self.passes[-1] = Pass(min([told.submitted, max(positions, default=told.submitted)]), None, None)
            return
        after = _stated(cache)
        if after is None:
            self._told.add(NO_LENGTH)
        past = told.past_before or 0
        if past == 0:
            # Before the first token a length is 0; a `len()` that is another number after it counts something else.
            capacity = bool(self._stated)
            self._is_no_length = capacity or (cache.tells_by_len and after != told.past_after)
        if after is not None and self._is_no_length:
            self._told.add(NOT_A_LENGTH)
            self._stated = after = None
        computed = median_high(positions) if positions else told.submitted
        repeats_past = past > 0 and 2 * (computed - told.submitted) > past
        self.passes[-1] = Pass(
            computed if repeats_past else told.submitted,
            told.past_before if self._stated is None else self._stated,
            told.past_after if after is None else after,
        )


def recorder_of(model: Any, allocated_bytes: Callable[[], int | None], *, keeps_past: bool) -> PassRecorder:
    """The recorder for a model and an arm: of a model of one's own, its inside is looked at too."""
    if isinstance(model, OwnCausalLM):
        return CustomModelProbe(model, allocated_bytes)
    state = signature_of(model).state if keeps_past else None
    if state is not None:
        return StateRecorder(model, allocated_bytes, state)
    return PassRecorder(model, allocated_bytes)


def _stated(cache: OwnPast | None) -> int | None:
    return None if cache is None else cache.stated_length()


class WeightOperators(TorchDispatchMode):
    """Positions per sequence of every look-up and product with weights."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = 1
        self.positions: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "embedding":
            self.positions.append(args[1].shape[-1] if args[1].ndim else 1)
        elif name in ("linear", "matmul", "mm") and args[1].ndim == 2:
            self._product(args[0])
        elif name == "addmm":
            self._product(args[1])
        return func(*args, **(kwargs or {}))

    def _product(self, tensor: torch.Tensor) -> None:
        if tensor.ndim > 1 and tensor.shape[-1]:
            self.positions.append(ceil(tensor.numel() / tensor.shape[-1] / self.rows))
