"""Which modes, habits, engines, caches, attentions and weights there are: tables that everything else asks.

What goes together is in `kvbench.arm`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """A way of decoding: what it submits at each step, whether it keeps a past, which habits it has by itself."""

    name: str
    summary: str
    keeps_past: bool
    habits: tuple[str, ...] = ()
    ours: bool = True  # whether the loop is kvbench's own, so that it can be interrupted and take habits
    proposes: bool = False  # whether a pass checks proposed tokens, so that it may make several


@dataclass(frozen=True)
class Habit:
    """Something that hand-written loops do at every step without need, and the modes that can be seen doing it."""

    name: str
    summary: str
    modes: tuple[str, ...] = ("nocache", "cached")


MODES = {
    mode.name: mode
    for mode in (
        Mode("nocache", "resubmits all output_ids at every step, last position's logits only", keeps_past=False),
        Mode(
            "nocache_naive",
            "the same as people first write it: all logits, a cache built and dropped",
            keeps_past=False,
            habits=("all_logits", "dropped_cache"),
        ),
        Mode("cached", "submits the newest token and the cache", keeps_past=True),
        Mode("generate", "transformers' generate() with its cache, as the reference", keeps_past=True, ours=False),
        Mode(
            "generate_nocache",
            "transformers' generate(use_cache=False), as the reference",
            keeps_past=False,
            ours=False,
        ),
        Mode(
            "interrupted",
            "loses its cache at interrupt.steps and resubmits all output_ids with an empty one",
            keeps_past=True,
        ),
        Mode("resumed", "appends what is inserted at interrupt.steps to the cache it has kept", keeps_past=True),
        Mode(
            "assisted",
            "transformers' generate() with a draft model, whose proposed tokens each pass checks",
            keeps_past=True,
            ours=False,
            proposes=True,
        ),
        Mode(
            "prompt_lookup",
            "transformers' generate() that proposes what followed the newest tokens earlier in the text",
            keeps_past=True,
            ours=False,
            proposes=True,
        ),
        Mode(
            "prefix",
            "computes the tokens that all prompts of a batch begin with once, and copies their cache to every sequence",
            keeps_past=True,
        ),
    )
}

# A mode that is a question about two ways of decoding runs both, the baseline first.
MODE_ARMS = {
    "both": ("nocache", "cached"),
    "interrupted": ("nocache", "cached", "interrupted"),
    "resumed": ("interrupted", "resumed"),
    "assisted": ("generate", "assisted"),
    "prompt_lookup": ("generate", "prompt_lookup"),
    "prefix": ("cached", "prefix"),
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
NO_HABIT = "none"
ALL_HABITS = "all"  # every habit at once, as the walk-through's loop has them


def habits_of(mode: str, habit: str) -> frozenset[str]:
    """The habits of an arm: those of its mode, and the one that is looked at, or all."""
    looked_at = tuple(HABITS) if habit == ALL_HABITS else () if habit == NO_HABIT else (habit,)
    return frozenset((*MODES[mode].habits, *looked_at))


def habit_conflict(mode: str, habit: str) -> str | None:
    """Why `mode` cannot have `habit`, or None when it can."""
    for name in habits_of(mode, habit) - set(MODES[mode].habits):
        if mode not in HABITS[name].modes:
            return f"mode {mode} cannot have the habit {name}, which is one of {' and '.join(HABITS[name].modes)}"
    return None


@dataclass(frozen=True)
class Engine:
    """A way of executing passes of one shape. Engines but eager prepare each shape once, and then repeat it."""

    name: str
    summary: str
    modes: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu", "cuda", "mps")
    attentions: tuple[str, ...] | None = None  # None: any
    preparation: str = "preparing"  # what its first visit pays for, once for each shape


EAGER = "eager"
ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            EAGER,
            "plain PyTorch, one kernel launch after another",
            tuple(MODES),
        ),
        Engine(
            "compiled",
            "torch.compile, in the mode that compile_mode names",
            ("nocache", "cached", "generate"),
            ("cpu", "cuda"),
            preparation="compiling",
        ),
        Engine(
            "graph",
            "plain PyTorch, captured in a CUDA graph and replayed",
            ("nocache", "cached"),
            ("cuda",),
            preparation="capturing",
        ),
        Engine(
            "fused",
            "kernels written for a step of few rows, in a CUDA graph (Gemma, Llama, Mistral, Qwen3, Yuan 2.0)",
            ("cached",),
            ("cuda",),
            ("auto",),
            preparation="building its kernels",
        ),
    )
}
COMPILE_MODES = {
    "default": "kernels fused, launched one after another",
    "reduce-overhead": "the same, replayed from a CUDA graph on a GPU",
    "max-autotune": "also times several kernels for every operation and keeps the fastest, in a CUDA graph on a GPU",
    "max-autotune-no-cudagraphs": "the same without a CUDA graph",
}
USUAL_COMPILE_MODE = "reduce-overhead"
USUAL_BUCKET = 64  # tokens; a step wastes half of it on average, and few shapes are compiled


@dataclass(frozen=True)
class CacheKind:
    """A way of holding keys and values. `static` is allocated whole at the start and has one length."""

    name: str
    summary: str
    static: bool = False
    windows: bool = True  # a layer with a window keeps no more than the window
    offloaded: bool = False  # its layers wait on the host and come to the device one after another
    bits: int | None = None  # of a quantised element; None: the model's own type
    backend: str | None = None  # what transformers calls the quantiser
    package: str | None = None  # the module behind it; the extra to install is named like the backend

    @property
    def lossy(self) -> bool:
        """Whether it gives back other numbers than it was given."""
        return self.bits is not None


def _quantised(name: str, backend: str, bits: int, package: str | None, summary: str) -> CacheKind:
    return CacheKind(name, summary, bits=bits, backend=backend, package=package)


NO_CACHE = "none"
CROPPABLE = ("dynamic", "full")  # caches whose newest tokens can be taken back, and whose rows can be multiplied
OWN_CACHE = "own"  # what a model of one's own keeps (model=python), whatever cache is asked for
CACHES = {
    kind.name: kind
    for kind in (
        CacheKind("dynamic", "grows by concatenation at every step; layers with a window keep the window"),
        CacheKind("full", "dynamic, but layers with a window keep every token too", windows=False),
        CacheKind("static", "allocated once at its full length and written in place", static=True),
        CacheKind(
            "offloaded", "dynamic, its layers on the host but for the one in use and the next; a GPU", offloaded=True
        ),
        CacheKind(
            "offloaded_static",
            "static, its layers without a window on the host but for the one in use and the next; a GPU",
            static=True,
            offloaded=True,
        ),
        *(
            _quantised(f"quanto_int{bits}", "quanto", bits, "optimum.quanto", f"optimum-quanto, {bits} bits")
            for bits in (4, 2)
        ),
        *(_quantised(f"hqq_int{bits}", "hqq", bits, "hqq", f"hqq, {bits} bits") for bits in (8, 4, 3, 2, 1)),
        _quantised("fp8", "fp8", 8, None, "transformers' own, float8_e4m3fn with one scale a layer"),
        CacheKind(NO_CACHE, "keeps nothing"),
    )
}
STATIC_STEP = 64  # tokens; lengths that differ little then share one compiled or captured step

# transformers' defaults for its quantised caches (but fp8): so many elements share a scale and a zero, and the newest
# tokens are kept as they are until there are so many of them. A prompt is quantised at once.
USUAL_GROUP = 64
LEAST_GROUP = 8
RESIDUAL_TOKENS = 128


def static_length(needed_tokens: int) -> int:
    """The length of a static cache that nobody gave one: what is needed, up to a multiple of `STATIC_STEP`."""
    return -(-needed_tokens // STATIC_STEP) * STATIC_STEP


def group_size(keys_per_token: int) -> int | None:
    """Elements that share a scale where a layer keeps so many keys a token; None where no group fits any length."""
    group = USUAL_GROUP
    while group >= LEAST_GROUP and keys_per_token % group:
        group //= 2
    return group if group >= LEAST_GROUP else None


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
ATTENTION_PACKAGES = {  # to install, and to import
    "flash_attention_2": ("flash_attn", "flash_attn"),
    "flash_attention_3": ("flash_attn_3", "flash_attn_interface"),
}
HALF_ONLY_ATTENTION = tuple(ATTENTION_PACKAGES)  # kernels for bfloat16 and float16 alone
# Beside a static cache flex_attention gives other logits than every other implementation (docs/log.md), and the
# packages' kernels would attend to what is not written yet.
GROWING_ONLY_ATTENTION = ("flex", *ATTENTION_PACKAGES)


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


# Trackers that a run can be sent to (`track=`): each is the name of its module and of kvbench's extra.
TRACKERS = ("mlflow", "wandb", "trackio", "tensorboard")
