"""Random weights at real size: the model's own initialisation, its large draws replaced by copies of one pool.

Drawing 2.5 billion normals on two CPU cores takes over a minute, copying them out of a pool takes seconds. Only the
source of the numbers changes: which parameter gets which spread, which norm is zero-centred, what is tied and what
every buffer holds stays the decision of the architecture's own code, run where the model will live.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, PreTrainedConfig

# A prime, so that no two rows of a matrix of any width are copies of the same stretch.
POOL_NUMBERS = 16_777_213
# Below it a draw costs less than it would lose in randomness.
SMALLEST_COPIED = 1 << 18


def random_model(
    config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, seed: int, *, trust_remote_code: bool = False
) -> Any:
    """A causal language model of this architecture with random weights, built on `device` in `dtype`.

    The same seed gives the same weights on the same kind of device. The global random state is left as it was.
    """
    with _seeded(device, seed), torch.device(device):
        # An accelerator draws faster than it copies.
        numbers = _NumbersFromPool(seed) if device.type == "cpu" else contextlib.nullcontext()
        with numbers:
            return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)


@contextlib.contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    accelerators = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(accelerators, device_type=accelerators[0].type if accelerators else "cuda"):
        torch.manual_seed(seed)
        yield


class _NumbersFromPool(TorchDispatchMode):
    """While active, large in-place draws (`normal_`, `uniform_`) copy from a pool of a prime number of draws."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(seed)
        self._pools: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        draws = {torch.ops.aten.normal_.default: self._normal, torch.ops.aten.uniform_.default: self._uniform}
        draw = draws.get(func)
        if draw is None or args[0].numel() < SMALLEST_COPIED or not args[0].is_contiguous():
            return func(*args, **kwargs)
        kwargs.pop("generator", None)
        draw(*args, **kwargs)
        return args[0]

    def _normal(self, target: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> None:
        self._fill(target, "normal", torch.randn, std, mean)

    def _uniform(self, target: torch.Tensor, low: float = 0.0, high: float = 1.0) -> None:
        self._fill(target, "uniform", torch.rand, high - low, low)

    def _fill(
        self, target: torch.Tensor, kind: str, draw: Callable[..., torch.Tensor], scale: float, shift: float
    ) -> None:
        pool = self._pool(kind, draw, target.dtype)
        flat = target.view(-1)
        start = int(torch.randint(len(pool), (), generator=self._generator))
        done = 0
        while done < len(flat):
            stretch = pool[start : start + len(flat) - done]
            torch.mul(stretch, scale, out=flat[done : done + len(stretch)])
            done += len(stretch)
            start = 0
        if shift:
            flat.add_(shift)

    def _pool(self, kind: str, draw: Callable[..., torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        if (kind, dtype) not in self._pools:
            self._pools[kind, dtype] = draw(POOL_NUMBERS, generator=self._generator).to(dtype)
        return self._pools[kind, dtype]
