"""Batches that are looked into are as long as those that are timed."""

from __future__ import annotations

from functools import partial

import torch

from kvbench.decoding.forward import make_batch
from kvbench.passes import UNINTERRUPTED
from kvbench.running.prompt_batches import PromptBatches


def test_the_steps_that_are_looked_into_have_the_room_of_the_run() -> None:
    """A static cache is as long as its run: with room for a few steps, a shorter one than is timed was profiled."""
    batches = PromptBatches(
        [[5, 6, 7], [5]], 2, 40, UNINTERRUPTED, None, partial(make_batch, device=torch.device("cpu"))
    )
    (middle,), steps = batches.around_the_mean_step()
    assert 4 == steps
    assert (2, 3 + 17) == middle.input_ids.shape  # 39 steps: 17 before these four and 18 behind them
    assert batches[0].positions.shape == middle.positions.shape
