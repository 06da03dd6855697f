"""Warnings about the device: its clocks, its neighbours, its memory, and sensors that fell silent."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.analysis.device_during import device_during
from kvbench.records.samples import RunSamples
from kvbench.records.schema import RunWarning
from kvbench.records.timings import POWER_CAP, Block

STEADY = 0.05  # relative spread of the clock from block to block that moves figures by no more than noise does
HEADROOM = 0.9  # of the device's memory; beyond it the allocator starts to give back and ask again


def device_warnings(samples: RunSamples) -> list[RunWarning]:
    """What the device was like; silence is no warning."""
    environment = samples.prepared.environment if samples.prepared else {}
    warnings = [*_clocks(samples.blocks), *_silence(samples.all_blocks)]
    others = environment.get("other_device_processes")
    if others:
        warnings.append(
            RunWarning(
                code="device_shared",
                detail=f"{others} other {'process computes' if others == 1 else 'processes compute'} on the device:"
                " they share its time and memory",
            )
        )
    total = environment.get("device_memory_bytes")
    used = max((each.device_used_bytes or 0 for each in samples.host_readings), default=0)
    if total and used > HEADROOM * total:
        warnings.append(
            RunWarning(
                code="memory_headroom",
                detail=f"the device's memory was {used / total:.0%} full: near its end the allocator gives memory back"
                " and asks for it again, which costs time",
            )
        )
    return warnings


def _clocks(blocks: Sequence[Block]) -> list[RunWarning]:
    during = device_during(blocks)
    if during is None:
        return []
    warnings = []
    low, high = during.sm_clock_mhz_min, during.sm_clock_mhz_max
    if low and high and low < (1 - STEADY) * high:
        warnings.append(
            RunWarning(
                code="clocks",
                detail=f"the device's clock was between {low} and {high} MHz at the ends of the blocks: lock it"
                " (`nvidia-smi --lock-gpu-clocks`), or read the ratio, which compares within blocks",
            )
        )
    capped = during.limited_blocks.get(POWER_CAP)
    if capped:
        warnings.append(
            RunWarning(
                code="power_cap",
                detail=f"the device's power cap held its clock down in {capped} of {len(blocks)} blocks: the times are"
                " those of this cap",
            )
        )
    return warnings


def _silence(blocks: Sequence[Block]) -> list[RunWarning]:
    """Sensors that answered at first and not at the end."""
    if not blocks or blocks[0].device_before is None or blocks[-1].device_after is not None:
        return []
    return [
        RunWarning(
            code="sensors_lost",
            detail="the device's sensors fell silent during the blocks: whether it was throttled then is not known",
        )
    ]
