"""Ranks that meet through torch.distributed: how a process joins them, and how they tell each other something."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from kvbench.errors import DeviceUnavailable, RankLost, reason_of
from kvbench.running.team import RankPlace

T = TypeVar("T")

# What torch, gloo and NCCL say when another rank is gone or does not come.
LOST = ("gloo", "nccl", "connection closed", "connection reset", "connection refused", "broken pipe", "timed out")


class TorchTeam:
    """The ranks of this process group. Messages go over gloo, also where the model's tensors go over NCCL."""

    def __init__(self, place: RankPlace) -> None:
        self.rank, self.size = place.rank, place.size
        # A group of its own: what ranks tell each other must not wait behind the model's tensors, nor use a GPU.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=place.timeout_s))

    def meet(self) -> None:
        """Wait until every rank has come here."""
        dist.barrier(group=self._group)

    def led(self, make: Callable[[], T]) -> T:
        """What rank 0 makes of `make`, on every rank."""
        told: list[Any] = [make() if self.rank == 0 else None]
        dist.broadcast_object_list(told, src=0, group=self._group)
        return told[0]  # type: ignore[no-any-return]

    def gathered(self, value: T) -> tuple[T, ...]:
        """The values of all ranks in their order, on every rank."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return tuple(values)


_joined: TorchTeam | None = None


def device_of(place: RankPlace, device: torch.device) -> torch.device:
    """The device of one rank: the GPU with its number on this host, or the CPU, which all ranks share.

    Raises `DeviceUnavailable` where there are fewer GPUs than ranks, and for a CPU beside GPUs, which transformers
    would take.
    """
    if device.type == "cpu" and torch.cuda.is_available():
        raise DeviceUnavailable(
            f"model.tensor_parallel={place.size}: transformers takes the GPUs of a machine that has some: use"
            " device=cuda, or hide them with CUDA_VISIBLE_DEVICES=-1"
        )
    if device.type != "cuda":
        return device
    if place.local_rank >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceUnavailable(
            f"model.tensor_parallel={place.size}: every rank needs a GPU of its own, and torch sees"
            f" {count} here: use model.tensor_parallel={count} or less, or device=cpu"
        )
    return torch.device("cuda", place.local_rank)


def join(place: RankPlace, device: torch.device) -> TorchTeam:
    """Meet the other ranks, once in a process; later calls get the same team. Raises `RankLost`."""
    global _joined
    if _joined is None:
        # transformers and torch read them, as torchrun would have set them.
        os.environ.update(RANK=str(place.rank), WORLD_SIZE=str(place.size), LOCAL_RANK=str(place.local_rank))
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        arguments: dict[str, Any] = {"backend": "gloo", "timeout": timedelta(seconds=place.timeout_s)}
        if on_gpu:
            arguments |= {"backend": "nccl", "device_id": device}
        if place.store is not None:
            store = dist.FileStore(place.store, place.size)  # type: ignore[attr-defined]
            arguments |= {"store": store, "rank": place.rank, "world_size": place.size}
        try:
            dist.init_process_group(**arguments)
            _joined = TorchTeam(place)
        except (RuntimeError, ValueError) as error:
            raise RankLost(f"rank {place.rank} did not meet the other ranks: {reason_of(error)}") from error
    return _joined


def lost_rank(error: BaseException) -> str | None:
    """In words, when an error of this process is that another rank is gone or did not come; else None."""
    if _joined is None or not isinstance(error, RuntimeError):
        return None
    words = str(error).lower()
    if not isinstance(error, dist.DistError) and not any(each in words for each in LOST):
        return None
    return f"rank {_joined.rank} lost the other ranks: {reason_of(error)}"
