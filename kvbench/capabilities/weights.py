"""The ways of holding the weights of linear layers in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantization:
    """A way of holding the weights of linear layers in fewer bits."""

    name: str
    summary: str
    package: str | None  # the package behind it, which is also the extra to install
    bits: int | None
    devices: tuple[str, ...] = ("cpu", "cuda")
    arithmetic: str | None = None  # the type whose rounding shows in its output, where that is not model.dtype


QUANTIZATIONS = {
    route.name: route
    for route in (
        Quantization("none", "weights as they are", None, None, ("cpu", "cuda", "mps")),
        Quantization(
            "int8", "bitsandbytes LLM.int8(): activations in 8 bits too", "bitsandbytes", 8, arithmetic="int8"
        ),
        # Its kernel for a single row computes in bfloat16 on the CPU whatever the type of the rest.
        Quantization("nf4", "bitsandbytes 4-bit NormalFloat", "bitsandbytes", 4, arithmetic="bfloat16"),
        Quantization("int8_weight_only", "torchao 8-bit weights, arithmetic in model.dtype", "torchao", 8),
        Quantization("int4_weight_only", "torchao 4-bit weights in groups of 128, on a GPU", "torchao", 4, ("cuda",)),
    )
}


def quantization_conflict(name: str, device_type: str) -> str | None:
    """Why these weights cannot be computed with on a device of this type, or None when they can."""
    route = QUANTIZATIONS[name]
    if device_type in route.devices:
        return None
    return (
        f"model.quantization={name}: {route.package} has no kernels for {device_type}; use device={route.devices[0]} or"
        " model.quantization=none"
    )
