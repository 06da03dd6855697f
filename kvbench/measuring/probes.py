"""Pieces of work whose times tell how fast this machine is: at most, once, and its host just now, in every run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from kvbench.records.ceilings import Ceilings, MatrixRate, ReadRate, fingerprint
from kvbench.records.evidence import HostCheck
from kvbench.statistics import median

# The host just now.


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
            _wait(device)
            time.sleep(BETWEEN_S)
    return taken[1:]


# What the machine can do at most.


CEILING_ROUNDS = 5  # of which the best counts: a ceiling is what was reached at all
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHARE_OF_MEMORY = 4  # a set larger than this part of the free memory is left out
SLOW_S = 0.3  # of one call: rounds of it would take too long

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Extent:
    """What is measured: bytes read, (rows, width) of products, small operations in a row, seconds of one round."""

    sets: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    launches: int = 2000
    round_s: float = 0.05  # long enough that reading the clock and waiting for the device do not show


ON_A_CPU = Extent((2**20, 2**22, 2**24, 2**26, 2**28, 2**30), ((1, 2048), (8, 2048), (64, 2048), (512, 2048)))
ON_A_GPU = Extent(
    (2**24, 2**26, 2**28, 2**30, 2**32),
    ((1, 8192), (8, 8192), (32, 8192), (128, 8192), (512, 8192), (2048, 8192), (8192, 8192)),
)


def measure_ceilings(
    device: torch.device, environment: dict[str, Any], free_bytes: int, tell: Tell, extent: Extent | None = None
) -> Ceilings:
    """Measure this device; `tell` hears what is being looked at. The environment makes the fingerprint."""
    extent = extent or (ON_A_CPU if device.type == "cpu" else ON_A_GPU)
    with torch.no_grad():
        return Ceilings(
            fingerprint=fingerprint(environment),
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            device_name=str(environment["device_name"]),
            read=tuple(_read_rates(device, extent, free_bytes, tell)),
            matrix=tuple(_matrix_rates(device, extent, tell)),
            launch_s=_launch_s(device, extent, tell),
            host=check_host(device),
        )


def _read_rates(device: torch.device, extent: Extent, free_bytes: int, tell: Tell) -> Iterator[ReadRate]:
    for size in extent.sets:
        if size * SHARE_OF_MEMORY > free_bytes:
            continue
        tell(f"reading {size / 2**20:,.0f} MiB")
        # As decoding reads weights: a matrix times a vector, which computes next to nothing. A sum reads as much.
        width = 2048
        kind = torch.float32 if device.type == "cpu" else torch.bfloat16
        matrix = torch.ones(size // kind.itemsize // width, width, dtype=kind, device=device)
        vector = torch.ones(width, dtype=kind, device=device)
        ways: tuple[Callable[[], Any], ...] = (lambda: matrix @ vector, matrix.sum)  # noqa: B023 - called at once
        seconds = min(_best_s(device, way, extent.round_s) for way in ways)
        yield ReadRate(set_bytes=matrix.numel() * kind.itemsize, bytes_per_s=matrix.numel() * kind.itemsize / seconds)


def _matrix_rates(device: torch.device, extent: Extent, tell: Tell) -> Iterator[MatrixRate]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        a_row_s = 0.0
        for rows, width in extent.shapes:
            if a_row_s * rows > SLOW_S:
                continue  # a type that this machine only emulates, whose rate nobody will come near
            tell(f"multiplying {rows:,} x {width:,} x {width:,} in {name}")
            left = torch.randn(rows, width, device=device).to(dtype)
            right = torch.randn(width, width, device=device).to(dtype)
            seconds = _best_s(device, lambda: left @ right, extent.round_s)  # noqa: B023 - called at once
            a_row_s = seconds / rows
            yield MatrixRate(dtype=name, rows=rows, width=width, flops_per_s=2.0 * rows * width * width / seconds)


def _launch_s(device: torch.device, extent: Extent, tell: Tell) -> float:
    tell("submitting small operations")
    small = torch.zeros(8, device=device)

    def many() -> None:
        for _ in range(extent.launches):
            small.add_(1.0)

    return _best_s(device, many, extent.round_s) / extent.launches


def _best_s(device: torch.device, work: Callable[[], Any], round_s: float) -> float:
    """Seconds of one call: the best of some rounds of many calls, the device idle at both ends of each."""
    work()
    once_s = _timed(device, work, 1)
    if once_s > SLOW_S:
        return once_s
    calls = max(1, int(round_s / max(once_s, 1e-7)))
    return min(_timed(device, work, calls) / calls for _ in range(CEILING_ROUNDS))


def _timed(device: torch.device, work: Callable[[], Any], calls: int) -> float:
    _wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
