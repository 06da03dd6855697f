"""What a training run depends on, what it measured, and the card that states both."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass

import tokenizers
import torch
import transformers

from tools.embedded_model.sums import HELD_OUT_SHARE
from tools.embedded_model.tokenizer import POSITIONS

TEXT_EVERY_STEPS = 2  # sums are harder than text and are learned from at every step
TEXT_SHAPES = ((8, 256), (2, 1024))  # rows, tokens: taken in turn, so that long contexts stay readable
EXAMINED_SUMS = 500  # of each shape


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on; the defaults made the model that is kept here."""

    seed: int = 0
    steps: int = 1300
    batch_sums: int = 256
    learning_rate: float = 3e-3
    threads: int = 2


@dataclass
class Losses:
    """Running means in nats per learned token."""

    sums: float = math.nan
    text: float = math.nan


@dataclass(frozen=True)
class Outcome:
    """What a training run measured."""

    parameters: int
    training_s: float
    processor_s: float  # summed over the threads
    losses: Losses
    accuracies: Mapping[tuple[int, int], float]  # digits of the summands -> share of sums answered exactly
    answers: Mapping[str, str]


def card(recipe: Recipe, outcome: Outcome) -> str:
    """The model card, in Markdown."""
    text_rows = ", in turn with ".join(f"{rows} rows of {tokens} tokens" for rows, tokens in TEXT_SHAPES)
    answers = "\n".join(f"| `{prompt}` | `{text}` |" for prompt, text in outcome.answers.items())
    return f"""\
# The embedded model

A Gemma-architecture language model of {outcome.parameters:,} parameters that comes with kvbench, so that a
benchmark runs without a download. It is trained, not random: it talks about decoding in short English and
Chinese sentences, adds numbers of two and three digits, and ends its answers by itself. It knows no more.

| | |
| --- | --- |
| data | made by the training script: sentences and questions from templates, sums such as `37+48=85` |
| held out | {HELD_OUT_SHARE:.0%} of all pairs of summands, chosen by their digest and never trained on |
| seed | {recipe.seed} |
| steps | {recipe.steps}, each of {recipe.batch_sums} sums; one in {TEXT_EVERY_STEPS} also of text |
| text | {text_rows} |
| optimiser | Muon and AdamW, learning rate {recipe.learning_rate:g}, products in bfloat16 |
| final loss | {losses_in_words(outcome.losses)} (running means, nats per learned token) |
| held-out accuracy | {accuracies_in_words(outcome.accuracies)} |
| examination | {EXAMINED_SUMS} held-out sums each, greedy; right is the exact answer, then the stop token |
| training time | {outcome.training_s / 60:.1f} minutes ({outcome.processor_s / 60:.1f} of processor time) |
| hardware | {recipe.threads} cores of an {platform.machine().replace("_", "-")} CPU |
| weights | float32 |
| positions | {POSITIONS} |

What greedy decoding writes, up to its stop token:

| prompt | answer |
| --- | --- |
{answers}

Made by

    python -m tools.embedded_model.train --seed {recipe.seed} --steps {recipe.steps}

with torch {torch.__version__}, transformers {transformers.__version__}, tokenizers {tokenizers.__version__}.
The same command with the same versions on the same kind of CPU makes the same model.
"""


def accuracies_in_words(accuracies: Mapping[tuple[int, int], float]) -> str:
    """One share for each shape of sums."""
    return "; ".join(f"{a} + {b} digits: {share:.1%}" for (a, b), share in accuracies.items())


def losses_in_words(losses: Losses) -> str:
    """Both means."""
    return f"{losses.sums:.4f} on sums, {losses.text:.4f} on text"
