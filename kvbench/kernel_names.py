"""What the name of a device's kernel says about it."""

from __future__ import annotations

ATTENTION_WORDS = ("sdpa", "fmha", "flash", "attention")


def is_attention(kernel: str) -> bool:
    """Whether a kernel computes attention in one piece, such as `cudnn_generated_fort_native_sdpa_sm90_…`."""
    return any(word in kernel.lower() for word in ATTENTION_WORDS)


def is_cudnn_attention(kernel: str) -> bool:
    """Whether it is cuDNN's, which is compiled and planned for the shapes at hand."""
    return is_attention(kernel) and "cudnn" in kernel.lower()
