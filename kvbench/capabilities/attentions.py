"""The implementations of attention."""

from __future__ import annotations

ATTENTIONS = {
    "auto": "what transformers chooses for the architecture",
    "sdpa": "scaled_dot_product_attention, its backend chosen by torch",
    "eager": "matrix products and softmax in plain PyTorch",
    "flash": "SDPA pinned to its flash backend",
    "efficient": "SDPA pinned to its memory-efficient backend",
    "math": "SDPA pinned to its math backend",
    "cudnn": "SDPA pinned to its cuDNN backend",
    "flex": "torch's flex_attention, which compiles itself at its first use",
    "flash_attention_2": "the package flash_attn",
    "flash_attention_3": "the package flash_attn_3, for Hopper",
    "grouped": "one query at a time: heads that share keys as rows of one matrix product; SDPA for longer passes",
}
CUDA_ONLY_ATTENTION = ("efficient", "cudnn", "flex", "flash_attention_2", "flash_attention_3")
PINNED_ATTENTION = ("flash", "efficient", "math", "cudnn")  # backends of SDPA
PACKAGES = {  # to install, and to import
    "flash_attention_2": ("flash_attn", "flash_attn"),
    "flash_attention_3": ("flash_attn_3", "flash_attn_interface"),
}
HALF_ONLY_ATTENTION = tuple(PACKAGES)  # kernels for bfloat16 and float16 alone
# Beside a static cache flex_attention gives other logits than every other implementation (docs/log.md), and the
# packages' kernels would attend to what is not written yet.
GROWING_ONLY_ATTENTION = ("flex", *PACKAGES)


def takes_masks(attention: str, device_type: str) -> bool:
    """Whether this attention can leave padding out: SDPA's flash backend takes no mask on a GPU."""
    return attention != "flash" or device_type == "cpu"


def attention_conflict(attention: str, device_type: str) -> str | None:
    """Why `attention` cannot run on a device of this type ("cpu", "cuda", "mps"), or None when it can."""
    if attention in CUDA_ONLY_ATTENTION and device_type != "cuda":
        return f"attention={attention} needs a CUDA device, the run is on {device_type}: use attention=sdpa or math"
    if attention == "flash" and device_type == "mps":
        return "attention=flash does not exist on mps: use attention=sdpa or math"
    return None
