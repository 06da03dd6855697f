"""torch.compile, once for each shape."""

from __future__ import annotations

import re
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch

from kvbench.decoding.engines.engine import CacheState, Repeat, Repeating
from kvbench.errors import ModelUnavailable, reason_of

WARM_UPS = 2  # after the first: one warms up what a CUDA graph is recorded from, one records it
SHAPES = 1024  # far beyond what a run has: torch would silently go on uncompiled after 8
# How the loader words that a library in inductor's cache is not whole.
_BROKEN_FILE = re.compile(r"(/\S+): (?:file too short|invalid ELF header|cannot read file data)")


class Compiled(Repeating):
    """A pass compiled whole in one of torch's modes; see `Engine`."""

    def __init__(self, device: torch.device, mode: str) -> None:
        super().__init__(device)
        self._mode = mode
        self._code: CodeType | None = None

    def _prepared(self, tensors: dict[str, torch.Tensor], cache: Any | None, fixed: dict[str, Any]) -> Repeat:
        plain, handing = self._plain, self._handing(cache)

        def logits(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            found: torch.Tensor = plain(**handing, **fixed, **inputs).logits
            return found

        compiled: Any = torch.compile(self._of_our_own(logits), mode=self._mode, fullgraph=True, dynamic=False)
        # Buffers of our own: a slice of all ids begins at another alignment at every step.
        buffers = {name: tensor.clone() for name, tensor in tensors.items()}

        def repeat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
            for name, buffer in buffers.items():
                buffer.copy_(tensors[name])
            found: torch.Tensor = compiled(buffers)
            return found

        before = CacheState(cache)
        limits = {"recompile_limit": SHAPES, "accumulated_recompile_limit": SHAPES}
        try:
            with torch._dynamo.config.patch(limits):
                repeat(tensors)  # compiles
                before.restore()
                for _ in range(WARM_UPS):
                    with self._noting_memory():
                        repeat(tensors)
                    before.restore()
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
            why, remedy = reason_of(error), "use engine=eager"
            if broken := _BROKEN_FILE.search(why):
                why = f"{broken[1]} was left unfinished by a compilation that was interrupted"
                remedy = f"remove {Path(broken[1]).parent} and run again"
            raise ModelUnavailable(
                f"engine=compiled: torch.compile could not take {type(self._model).__name__} ({why}): {remedy}"
            ) from error
        return repeat

    def _of_our_own(self, function: Any) -> Any:
        """The function with code that no other engine has.

        torch finds what it has compiled by the code, and does not look at SDPA's pinned backend: one arm would be given
        the kernels of another.
        """
        self._code = self._code or function.__code__.replace()
        return FunctionType(self._code, function.__globals__, function.__name__, None, function.__closure__)
