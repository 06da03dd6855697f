"""What an engine is: something that takes the place of a model's forward while a run lasts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol


class Engine(Protocol):
    """Executes passes of a model.

    `prepared_s` are the seconds it has spent so far on compiling and capturing, `repeated` the passes that went through
    what it prepared. `replayed_bytes` is the most that one of those takes on a GPU: a replay writes to memory that was
    set aside at the capture, and allocates none.
    """

    prepared_s: float
    repeated: int
    replayed_bytes: int

    def running(self, model: Any) -> AbstractContextManager[None]:
        """A context in which calls of the model go through the engine; hooks on the model see them as ever."""

    def release(self) -> None:
        """Give up what it holds on the device; it is made anew when it is needed."""
