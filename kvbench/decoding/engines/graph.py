"""The plain operations of a pass, captured once for each shape in a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from kvbench.decoding.engines.engine import CacheState, Repeat, Repeating
from kvbench.errors import ModelUnavailable, reason_of

WARM_UPS = 2  # libraries take their workspaces, and plans are built, outside of the capture


@dataclass(frozen=True)
class Captured:
    """A captured pass: called with the tensors of another one, it replays itself on them."""

    graph: torch.cuda.CUDAGraph
    buffers: dict[str, torch.Tensor]
    output: torch.Tensor
    source: Callable[[], torch.Tensor]  # the graph knows addresses alone: this keeps what is there alive

    def __call__(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """The logits, which the next call writes over."""
        for name, buffer in self.buffers.items():
            buffer.copy_(tensors[name])
        self.graph.replay()
        return self.output


class Graph(Repeating):
    """Replays a captured pass; see `Engine`. All graphs of an arm share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._pool: Any = None

    def release(self) -> None:
        """Gives up the graphs, and the memory pool that they share."""
        super().release()
        self._pool = None

    def _prepared(self, tensors: dict[str, torch.Tensor], cache: Any | None, fixed: dict[str, Any]) -> Repeat:
        plain, handing = self._plain, self._handing(cache)
        buffers = {name: tensor.clone() for name, tensor in tensors.items()}

        def logits() -> torch.Tensor:
            found: torch.Tensor = plain(**handing, **fixed, **buffers).logits
            return found

        return self._captured(logits, buffers, cache)

    def _captured(
        self, logits: Callable[[], torch.Tensor], buffers: dict[str, torch.Tensor], cache: Any | None
    ) -> Repeat:
        """What copies a pass's tensors into `buffers` and replays `logits` captured over them."""
        before = CacheState(cache)
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                logits()
                before.restore()
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool), self._noting_memory():
                output = logits()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = reason_of(error)
            raise ModelUnavailable(
                f"engine=graph: a pass of {type(self._model).__name__} cannot be captured ({why}): use engine=eager or"
                " compiled"
            ) from error
        self._pool = graph.pool()
        before.restore()
        return Captured(graph, buffers, output, logits)
