"""Small pieces of work whose times tell how fast the host is just now; well under a second in all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from kvbench.records.evidence import HostCheck
from kvbench.statistics import median

ROUNDS = 5  # whose median counts: neither the luckiest round nor one that was interrupted
# Launching changes its speed within a second on shared hosts: over rounds spread over a tenth of a second, two checks
# differed by over 20 % in 19 % of pairs, and in 44 % with seven rounds at once (one NVIDIA H200, docs/log.md).
LAUNCH_ROUNDS = 21
BETWEEN_S = 0.005
LAUNCHES = 300  # in a row; a GPU's queue holds more, so that the host never waits for the device
PRODUCTS = 3
WIDTH = 256  # of the product: large enough for all threads, small enough for every cache
READ_BYTES = 2**25  # more than most processors keep in a cache of one core


def check_host(device: torch.device) -> HostCheck:
    """Time the host now."""
    with torch.no_grad():
        if device.type != "cpu":
            return HostCheck(launch_s=median(launch_rounds_s(device)))
        return HostCheck(launch_s=median(launch_rounds_s(device)), product_s=_product_s(), read_s=_read_s())


def launch_rounds_s(device: torch.device) -> list[float]:
    """The host's seconds for one small operation, without waiting for a device to do it; one figure per round."""
    small = torch.zeros(8, dtype=torch.float32, device=device)

    def many() -> None:
        for _ in range(LAUNCHES):
            small.add_(1.0)

    return [seconds / LAUNCHES for seconds in _rounds_s(many, LAUNCH_ROUNDS, device)]


def _product_s() -> float:
    square = torch.ones(WIDTH, WIDTH, dtype=torch.float32, device="cpu")

    def products() -> None:
        for _ in range(PRODUCTS):
            square @ square

    return median(_rounds_s(products, ROUNDS)) / PRODUCTS


def _read_s() -> float:
    memory = torch.ones(READ_BYTES // 4, dtype=torch.float32, device="cpu")
    return median(_rounds_s(memory.sum, ROUNDS))


def _rounds_s(work: Callable[[], Any], rounds: int, device: torch.device | None = None) -> list[float]:
    """Seconds of each round, the device idle at its beginning; a round before them is for practice."""
    taken = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
        if device is not None:
            _wait_for(device)
            time.sleep(BETWEEN_S)
    return taken[1:]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
