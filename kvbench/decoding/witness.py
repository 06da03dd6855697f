"""An independent eye on what really reaches a model, for untimed passes of every decoder, `generate` included."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from kvbench.decoding.cache_bytes import logical_bytes
from kvbench.decoding.protocol import Pass
from kvbench.models.signature import handed_cache


class Witness:
    """A context in which every forward pass of `model` is written down.

    `passes` holds what was submitted; `kv_bytes` the bytes of the cache that was handed in, after each pass (0: none);
    `allocated` what the allocator held then, as `allocated_bytes` tells it.
    """

    def __init__(self, model: Any, allocated_bytes: Callable[[], int | None]) -> None:
        self._model = model
        self._allocated_bytes = allocated_bytes
        self.passes: list[Pass] = []
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._before.remove()
        self._after.remove()

    def _see_inputs(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - torch's shape
        cache = handed_cache(kwargs)
        self._past = _length(cache)

    def _see_cache(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG002
        cache = handed_cache(kwargs)
        self.passes.append(Pass(kwargs["input_ids"].shape[1], self._past, _length(cache)))
        self.kv_bytes.append(0 if cache is None else logical_bytes(cache))
        self.allocated.append(self._allocated_bytes())


def _length(cache: Any | None) -> int | None:
    """Tokens that a cache says it holds; None without one, or for a state that counts none."""
    try:
        return None if cache is None else int(cache.get_seq_length())
    except (AttributeError, ValueError):  # a state of the model's own, or transformers' layers for recurrent ones
        return None
