"""Small pieces of work whose times tell how fast the host is just now; well under a second in all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from kvbench.records.host_checks import HostCheck
from kvbench.statistics import median

ROUNDS = 5  # whose median counts: neither the luckiest round nor one that was interrupted
LAUNCHES = 300  # in a row; a GPU's queue holds more, so that the host never waits for the device
PRODUCTS = 3
WIDTH = 256  # of the product: large enough for all threads, small enough for every cache
READ_BYTES = 2**25  # more than most processors keep in a cache of one core


def check_host(device: torch.device) -> HostCheck:
    """Time the host now."""
    with torch.no_grad():
        if device.type != "cpu":
            return HostCheck(launch_s=launch_s(device))
        return HostCheck(launch_s=launch_s(device), product_s=_product_s(), read_s=_read_s())


def launch_s(device: torch.device) -> float:
    """The host's seconds for one small operation, without waiting for a device to do it."""
    small = torch.zeros(8, device=device)

    def many() -> None:
        for _ in range(LAUNCHES):
            small.add_(1.0)

    return _seconds(many, device) / LAUNCHES


def _product_s() -> float:
    square = torch.ones(WIDTH, WIDTH)

    def products() -> None:
        for _ in range(PRODUCTS):
            square @ square

    return _seconds(products) / PRODUCTS


def _read_s() -> float:
    memory = torch.ones(READ_BYTES // 4)
    return _seconds(memory.sum)


def _seconds(work: Callable[[], Any], device: torch.device | None = None) -> float:
    """The median of some rounds, the device idle at the beginning of each; a round before them is for practice."""
    taken = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device is not None and device.type == "mps":
            torch.mps.synchronize()
    return median(taken[1:])
