"""Makes the embedded model, from its text to its card: `python -m tools.embedded_model.train`."""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GemmaConfig, GemmaForCausalLM

import kvbench.models
from kvbench.models.loading import quietly
from tools.embedded_model.card import (
    EXAMINED_SUMS,
    TEXT_EVERY_STEPS,
    TEXT_SHAPES,
    Losses,
    Outcome,
    Recipe,
    accuracies_in_words,
    card,
    losses_in_words,
)
from tools.embedded_model.sums import EXAMPLES, STOP, Piece, accuracy, answer, held_out_pairs, sum_pieces
from tools.embedded_model.text import document, documents
from tools.embedded_model.tokenizer import POSITIONS, train_tokenizer

FOLDER = Path(kvbench.models.__file__).with_name("embedded")
WARM_UP_STEPS = 100
REPORT_EVERY_S = 2.0
UNLEARNED = -100  # the label that transformers leaves out of the loss


def gemma(tokenizer: Any) -> Any:
    """An untrained model: Gemma's architecture, with one key-value head for four query heads."""
    return GemmaForCausalLM(
        GemmaConfig(
            vocab_size=len(tokenizer),
            hidden_size=160,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=40,
            max_position_embeddings=POSITIONS,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            tie_word_embeddings=True,
        )
    )


def learn(model: Any, tokenizer: Any, recipe: Recipe, dice: random.Random) -> Losses:
    """All steps of training; says every other second how far it is."""
    optimisers = _optimisers(model, recipe.learning_rate)
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: _rate(step, recipe.steps)) for each in optimisers]
    losses = Losses()
    started = said = time.monotonic()
    model.train()
    for step in range(recipe.steps):
        losses.sums = _smoothed(losses.sums, _backward(model, _sum_batch(tokenizer, recipe.batch_sums, dice)))
        if step % TEXT_EVERY_STEPS == 0:
            rows, tokens = TEXT_SHAPES[step // TEXT_EVERY_STEPS % len(TEXT_SHAPES)]
            losses.text = _smoothed(losses.text, _backward(model, _text_batch(tokenizer, rows, tokens, dice)))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        model.zero_grad()
        if time.monotonic() - said > REPORT_EVERY_S:
            said = time.monotonic()
            _say(f"{said - started:4.0f} s, step {step + 1}/{recipe.steps}: loss {losses_in_words(losses)}")
    model.eval()
    return losses


def _optimisers(model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the rest.

    After 400 steps this adds, where AdamW alone does not yet.
    """
    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]
    inside = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate(step: int, steps: int) -> float:
    """Warm up, stay, and fall to nothing over the last half."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, 2 * (steps - step) / steps)


def _backward(model: Any, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    ids, labels = batch
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
    loss.backward()
    return float(loss.item())


def _sum_batch(tokenizer: Any, rows: int, dice: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    return _batch(tokenizer, ([*sum_pieces(dice), STOP] for _ in range(rows)))


def _text_batch(tokenizer: Any, rows: int, tokens: int, dice: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    return _batch(tokenizer, (documents(dice) for _ in range(rows)), tokens)


def _batch(
    tokenizer: Any, texts: Iterable[Iterable[Piece]], longest: int = POSITIONS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels (batch, tokens), padded at the end."""
    rows = [torch.tensor(_row(tokenizer, pieces, longest)) for pieces in texts]
    ids = pad_sequence([row[:, 0] for row in rows], batch_first=True, padding_value=tokenizer.pad_token_id)
    labels = pad_sequence([row[:, 1] for row in rows], batch_first=True, padding_value=UNLEARNED)
    return ids, labels


def _row(tokenizer: Any, pieces: Iterable[Piece], longest: int) -> list[tuple[int, int]]:
    """<bos> and the tokens of the pieces, each with its label, cut to `longest`."""
    row = [(tokenizer.bos_token_id, UNLEARNED)]
    for piece in pieces:
        ids = tokenizer.encode(piece.text, add_special_tokens=False)
        row.extend((token, token if piece.learned else UNLEARNED) for token in ids)
        if len(row) >= longest:
            break
    return row[:longest]


def _smoothed(average: float, loss: float) -> float:
    return loss if math.isnan(average) else 0.98 * average + 0.02 * loss


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a person waits for this


def train(recipe: Recipe, folder: Path) -> Outcome:
    """One run, from the seed to the folder with its card."""
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    dice = random.Random(recipe.seed)  # noqa: S311 - nothing here is secret
    tokenizer = train_tokenizer(["".join(piece.text for piece in document(dice)) for _ in range(5000)])
    model = gemma(tokenizer)
    started, busy = time.monotonic(), time.process_time()
    losses = learn(model, tokenizer, recipe, dice)
    outcome = Outcome(
        parameters=model.num_parameters(),
        training_s=time.monotonic() - started,
        processor_s=time.process_time() - busy,
        losses=losses,
        accuracies={
            shape: accuracy(model, tokenizer, held_out_pairs(shape, EXAMINED_SUMS))
            for shape in ((2, 2), (2, 3), (3, 3))
        },
        answers={prompt: answer(model, tokenizer, prompt) for prompt in EXAMPLES},
    )
    with quietly():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card(recipe, outcome), encoding="utf-8")
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, examine, write."""
    parser = argparse.ArgumentParser(prog="python -m tools.embedded_model.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder to write (default: the kept one)")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    options = parser.parse_args(arguments)
    outcome = train(Recipe(options.seed, options.steps), options.out)
    _say(f"{outcome.training_s / 60:.1f} minutes; held-out sums: {accuracies_in_words(outcome.accuracies)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
