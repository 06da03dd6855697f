"""The embedded model's card, written from what its training measured."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvbench.models.train_embedded import Outcome, Recipe


def card(recipe: Recipe, outcome: Outcome) -> str:
    """Markdown: what it is, how it was made, how well it adds."""
    return f"""# The embedded model

A Gemma-architecture language model of {outcome.parameters:,} parameters that comes with kvbench, so that a benchmark
runs without a download. It is trained, not random: it finishes short sentences about decoding in English and Chinese,
adds numbers of two and three digits, and ends its answers by itself. It knows nothing else.

| | |
| --- | --- |
| data | made by `kvbench/models/embedded_text.py`: sentences, questions with answers, sums such as `37+48=85`; 5 % of all pairs of summands are held out, by digest |
| seed, steps, batch | {recipe.seed}, {recipe.steps}, {recipe.batch} sums a step and 24 texts every third |
| final loss (smoothed, nats per token) | sums {outcome.sum_loss:.3f} (a summand cannot be foreseen), text {outcome.text_loss:.3f} |
| held-out sums answered exactly | two digits {outcome.accuracy[2]:.1%}, three digits {outcome.accuracy[3]:.1%} (1000 each, greedy) |
| training | {outcome.minutes:.1f} minutes, {recipe.threads} threads, {platform.machine()} CPU |
| weights | bfloat16 in the file, decoded in float32 unless told otherwise |
| positions | 4096; texts seen in training have up to 192 tokens |

Made by `python -m kvbench.models.train_embedded --seed {recipe.seed} --steps {recipe.steps}`.
"""
