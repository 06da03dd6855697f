"""kvbench: what a KV cache buys when a Hugging Face causal language model decodes, what it costs, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["measure", "watch"]

if TYPE_CHECKING:
    from kvbench.python_api import measure
    from kvbench.watching.watcher import watch


def __getattr__(name: str) -> Any:
    # `import kvbench` stays cheap: the command line starts without numpy, pydantic or torch.
    if name == "measure":
        from kvbench.python_api import measure

        return measure
    if name == "watch":
        from kvbench.watching.watcher import watch

        return watch
    raise AttributeError(f"module 'kvbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
