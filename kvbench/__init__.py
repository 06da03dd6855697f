"""kvbench: what a KV cache buys when a Hugging Face causal language model decodes, what it costs, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["measure", "rescore", "watch"]

if TYPE_CHECKING:
    from kvbench.python_api import measure, rescore
    from kvbench.watching.watcher import watch

    __version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from kvbench.installation import own_version

        return own_version()
    # `import kvbench` stays cheap: the command line starts without numpy, pydantic or torch.
    if name in ("measure", "rescore"):
        from kvbench import python_api

        return getattr(python_api, name)
    if name == "watch":
        from kvbench.watching.watcher import watch

        return watch
    raise AttributeError(f"module 'kvbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
