"""What hand-written loops do at every step without need, done on purpose so that its cost can be measured.

The loop that many people start from has all of them. It also has two that cost no time worth an arm: its top-p only
switches greedy decoding on and never filters, and it draws two samples and drops one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch


def _no_text(ids: list[int]) -> str:
    raise AssertionError(f"no tokenizer was given for {len(ids)} tokens")


@dataclass(frozen=True)
class Habits:
    """The habits of one loop, by the names of `capabilities.HABITS`.

    `text` decodes token ids, `interval` is the number of tokens between two decodings of the whole text.
    """

    names: frozenset[str] = frozenset()
    text: Callable[[list[int]], str] = _no_text
    interval: int = 1

    @property
    def gradients(self) -> bool:
        """Whether every step records what a backward pass would need."""
        return "autograd" in self.names

    @property
    def all_logits(self) -> bool:
        """Whether logits of every position are asked for."""
        return "all_logits" in self.names

    @property
    def builds_cache(self) -> bool:
        """Whether a cache is built and dropped in passes that keep none."""
        return "dropped_cache" in self.names

    def context(self) -> AbstractContextManager[object]:
        """What a run happens in."""
        return torch.enable_grad() if self.gradients else torch.inference_mode()

    def submitted(self, ids: torch.Tensor) -> torch.Tensor:
        """`ids` (batch, submitted) as the model gets them: themselves, or rebuilt from a list on the host."""
        return torch.tensor(ids.tolist(), device=ids.device) if "python_list" in self.names else ids

    def after_token(self, index: int, ids: torch.Tensor, token: torch.Tensor) -> None:
        """What is done once new token `index`, `token` (batch,), stands at the end of `ids` (batch, context)."""
        if "host_read" in self.names:
            token.tolist()
        if "whole_text" in self.names and (index + 1) % self.interval == 0:
            for row in ids.tolist():
                self.text(row)


NO_HABITS = Habits()
