"""An engine's pass without its compiler or without its code generator, for tests that are about everything else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvbench.models.signature import library_cache


def plainly(self: Any, tensors: dict[str, torch.Tensor], cache: Any | None, fixed: dict[str, Any]) -> Any:
    """In the place of `Compiled._prepared`: repeats a pass without compiling it, which would take a minute."""
    plain = self._plain
    return lambda tensors: plain(**library_cache(cache), **fixed, **tensors).logits


def only_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has torch.compile trace, guard and keep as ever, and run the operators that it found without generating code."""
    compile_it = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, *, mode, **how: compile_it(function, backend="eager", **how))
