"""The embedded model's card, written from what its training measured."""

from __future__ import annotations

import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One training run; the defaults made the model that is kept here."""

    seed: int = 0
    steps: int = 1500
    batch: int = 320
    learning_rate: float = 2e-3
    threads: int = 2


@dataclass(frozen=True)
class Outcome:
    """What a training run measured."""

    parameters: int
    minutes: float
    sum_loss: float
    text_loss: float
    accuracy: dict[int, float]  # digits -> share of held-out sums answered exactly


def card(recipe: Recipe, outcome: Outcome) -> str:
    """Markdown: what it is, how it was made, how well it adds."""
    two, three = outcome.accuracy[2], outcome.accuracy[3]
    rows = (
        ("data", "made by `kvbench/models/embedded_text.py`: sentences, questions with answers, sums like `37+48=85`"),
        ("held out", "5 % of all pairs of summands, by digest; never seen in training"),
        ("seed, steps", f"{recipe.seed}, {recipe.steps} of {recipe.batch} sums each; every fourth also of 16 texts"),
        ("final loss", f"{outcome.sum_loss:.4f} on sums, {outcome.text_loss:.3f} on text (nats per token, smoothed)"),
        ("held-out sums answered exactly", f"{two:.1%} of two digits, {three:.1%} of three (1000 each, greedy)"),
        (
            "training time",
            f"{outcome.minutes:.1f} minutes with {recipe.threads} threads on an {platform.machine()} CPU",
        ),
        ("weights", "bfloat16 in the file, decoded in float32 unless told otherwise"),
        ("positions", "4096; texts seen in training have up to 192 tokens"),
    )
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""# The embedded model

A Gemma-architecture language model of {outcome.parameters:,} parameters that comes with kvbench, so that a benchmark
runs without a download. It is trained, not random: it finishes short sentences about decoding in English and Chinese,
adds numbers of two and three digits, and ends its answers by itself. It knows nothing else.

| | |
| --- | --- |
{table}

Made by `python -m kvbench.models.train_embedded --seed {recipe.seed} --steps {recipe.steps}`.
"""
