"""The engines: how the operations of a pass get from Python to the device."""

from __future__ import annotations

from dataclasses import dataclass


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
            ("nocache", "nocache_naive", "cached", "generate", "generate_nocache", "interrupted", "resumed"),
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


def usual_compile_mode(engine: str) -> str | None:
    """The compile mode of an arm that names none; None for an engine that does not compile."""
    return USUAL_COMPILE_MODE if engine == "compiled" else None


def usual_bucket(mode: str, engine: str) -> int | None:
    """The bucket of an arm that names none, in tokens; None for exact lengths, where nothing is repeated."""
    return USUAL_BUCKET if mode == "nocache" and engine != EAGER else None
