"""Plain PyTorch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


class Eager:
    """The model as it is; see `Engine`."""

    prepared_s = 0.0
    repeated = 0
    replayed_bytes = 0

    def running(self, model: Any) -> AbstractContextManager[None]:  # noqa: ARG002 - nothing is put in its place
        """See `Engine.running`."""
        return nullcontext()

    def release(self) -> None:
        """See `Engine.release`; it holds nothing."""


EAGER = Eager()
