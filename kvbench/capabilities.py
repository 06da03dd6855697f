"""What goes together, and why not: the one table that configuration, decoders and help pages ask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """A way of decoding: what it submits at each step and which caches it can hold."""

    name: str
    summary: str
    caches: tuple[str, ...]  # the first one is the default


MODES = {
    mode.name: mode
    for mode in (
        Mode("nocache", "resubmits all output_ids at every step, last position's logits only", ("none",)),
        Mode("nocache_naive", "the same as people first write it: all logits, a cache built and dropped", ("none",)),
        Mode("cached", "submits the newest token and the cache", ("dynamic",)),
        Mode("generate", "transformers' generate() with its cache, as the reference", ("dynamic",)),
        Mode("generate_nocache", "transformers' generate(use_cache=False), as the reference", ("none",)),
    )
}
BOTH = ("nocache", "cached")
CACHES = {"dynamic": "grows by concatenation at every step", "none": "keeps nothing"}
ENGINES = {"eager": "plain PyTorch, one kernel launch after another"}
ATTENTIONS = {
    "auto": "what transformers chooses for the architecture",
    "sdpa": "scaled_dot_product_attention, its backend chosen by torch",
    "eager": "matrix products and softmax in plain PyTorch",
    "flash": "SDPA pinned to its flash backend",
    "efficient": "SDPA pinned to its memory-efficient backend",
    "math": "SDPA pinned to its math backend",
    "cudnn": "SDPA pinned to its cuDNN backend",
}
PINNED_SDPA = ("flash", "efficient", "math", "cudnn")
CUDA_ONLY_ATTENTION = ("efficient", "cudnn")


def cache_conflict(mode: str, cache: str) -> str | None:
    """Why `mode` cannot hold `cache`, or None when it can."""
    allowed = MODES[mode].caches
    if cache in allowed:
        return None
    return f"mode {mode} goes with cache {' or '.join(allowed)}, not {cache}"


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
