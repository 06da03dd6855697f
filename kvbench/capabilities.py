"""What goes together, and why not: the one table that configuration, decoders and help pages ask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """A way of decoding: what it submits at each step, which caches it can hold, which habits it has by itself."""

    name: str
    summary: str
    caches: tuple[str, ...]  # the first one is the default
    habits: tuple[str, ...] = ()
    ours: bool = True  # whether the loop is kvbench's own, so that it can be interrupted and take habits


@dataclass(frozen=True)
class Quantization:
    """A way of holding the weights of linear layers in fewer bits."""

    name: str
    summary: str
    package: str | None  # the package behind it, which is also the extra to install
    bits: int | None
    devices: tuple[str, ...] = ("cpu", "cuda")
    arithmetic: str | None = None  # the type whose rounding shows in its output, where that is not model.dtype


@dataclass(frozen=True)
class Habit:
    """Something that hand-written loops do at every step without need, and the modes that can be seen doing it."""

    name: str
    summary: str
    modes: tuple[str, ...] = ("nocache", "cached")


MODES = {
    mode.name: mode
    for mode in (
        Mode("nocache", "resubmits all output_ids at every step, last position's logits only", ("none",)),
        Mode(
            "nocache_naive",
            "the same as people first write it: all logits, a cache built and dropped",
            ("none",),
            habits=("all_logits", "dropped_cache"),
        ),
        Mode("cached", "submits the newest token and the cache", ("dynamic",)),
        Mode("generate", "transformers' generate() with its cache, as the reference", ("dynamic",), ours=False),
        Mode("generate_nocache", "transformers' generate(use_cache=False), as the reference", ("none",), ours=False),
        Mode(
            "interrupted",
            "loses its cache at interrupt.steps and resubmits all output_ids with an empty one",
            ("dynamic",),
        ),
        Mode("resumed", "appends what is inserted at interrupt.steps to the cache it has kept", ("dynamic",)),
    )
}

# A mode that is a question about two ways of decoding runs both, the baseline first.
MODE_ARMS = {
    "both": ("nocache", "cached"),
    "interrupted": ("nocache", "cached", "interrupted"),
    "resumed": ("interrupted", "resumed"),
}
INTERRUPTED = ("interrupted", "resumed")  # the modes that are about interrupt.steps

HABITS = {
    habit.name: habit
    for habit in (
        Habit("autograd", "no torch.no_grad: every step builds the graph of a backward pass that never comes"),
        Habit("all_logits", "logits of every position, of which one is used"),
        Habit("dropped_cache", "use_cache left on: a cache is built at every step and dropped", ("nocache",)),
        Habit("python_list", "the input tensor is rebuilt from a Python list of ids"),
        Habit("host_read", "the newest token is read on the host"),
        Habit("whole_text", "the whole text is decoded again at every stream.interval tokens"),
    )
}
ALL_HABITS = "all"  # every habit at once, as the walk-through's loop has them
OWN_CACHE = "own"  # what a model of one's own keeps (model=python), whatever cache is asked for
CACHES = {"dynamic": "grows by concatenation at every step", "none": "keeps nothing"}
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
    )
}
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
CUDA_ONLY_ATTENTION = ("efficient", "cudnn")


def cache_conflict(mode: str, cache: str) -> str | None:
    """Why `mode` cannot hold `cache`, or None when it can."""
    allowed = MODES[mode].caches
    if cache in allowed:
        return None
    return f"mode {mode} goes with cache {' or '.join(allowed)}, not {cache}"


def habits_of(mode: str, habit: str) -> frozenset[str]:
    """The habits of an arm: those of its mode, and the one that is looked at, or all."""
    looked_at = tuple(HABITS) if habit == ALL_HABITS else () if habit == "none" else (habit,)
    return frozenset((*MODES[mode].habits, *looked_at))


def habit_conflict(mode: str, habit: str) -> str | None:
    """Why `mode` cannot have `habit`, or None when it can."""
    for name in habits_of(mode, habit) - set(MODES[mode].habits):
        if mode not in HABITS[name].modes:
            return f"mode {mode} cannot have the habit {name}, which is one of {' and '.join(HABITS[name].modes)}"
    return None


def quantization_conflict(name: str, device_type: str) -> str | None:
    """Why these weights cannot be computed with on a device of this type, or None when they can."""
    route = QUANTIZATIONS[name]
    if device_type in route.devices:
        return None
    return (
        f"model.quantization={name}: {route.package} has no kernels for {device_type}; use device=cpu or"
        " model.quantization=none"
    )


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
