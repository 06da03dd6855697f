"""Trains the embedded model and writes its folder, card included: `python -m kvbench.models.train_embedded`."""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GemmaConfig, GemmaForCausalLM

from kvbench.models.embedded_card import Outcome, Recipe, card
from kvbench.models.embedded_text import addition, corpus, is_held_out, pair, text_example, training_addition
from kvbench.models.embedded_tokenizer import train_tokenizer
from kvbench.models.quiet import quietly

FOLDER = Path(__file__).with_name("embedded")
TEXT_EVERY = 4  # every fourth step also learns from text; sums are harder and get the rest
TEXT_BATCH = 16
TEXT_TOKENS = 192
WARM_UP_STEPS = 100
REPORT_EVERY_S = 5.0
EXAMINED = 1000  # held-out sums per number of digits


def main(argv: Sequence[str] | None = None) -> int:
    """Train, examine, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    for name in ("seed", "steps", "batch", "threads"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe, name))
    options = parser.parse_args(argv)
    recipe = Recipe(options.seed, options.steps, options.batch, threads=options.threads)
    train(recipe, options.out)
    return 0


def train(recipe: Recipe, folder: Path) -> Outcome:
    """One run from the seed to the folder."""
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    dice = random.Random(recipe.seed)  # noqa: S311 - training data, not a secret
    tokenizer = train_tokenizer(corpus(dice, 3000))
    model = GemmaForCausalLM(model_config(tokenizer))
    started = time.monotonic()
    sum_loss, text_loss = _learn(model, tokenizer, recipe, dice)
    minutes = (time.monotonic() - started) / 60
    model.to(torch.bfloat16).to(torch.float32)  # what the file will hold is what is examined
    accuracy = {digits: held_out_accuracy(model, tokenizer, digits, EXAMINED) for digits in (2, 3)}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    outcome = Outcome(parameters, minutes, sum_loss, text_loss, accuracy)
    _write(model, tokenizer, recipe, outcome, folder)
    return outcome


def model_config(tokenizer: Any) -> GemmaConfig:
    """The architecture: Gemma's, with one key-value head for four query heads."""
    return GemmaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=40,
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        tie_word_embeddings=True,
    )


@torch.inference_mode()
def held_out_accuracy(model: Any, tokenizer: Any, digits: int, count: int, seed: int = 1) -> float:
    """Share of held-out sums of numbers with this many digits that greedy decoding answers exactly, end included."""
    dice = random.Random(seed)  # noqa: S311
    pairs = [pair(dice, digits, held_out=True) for _ in range(count)]
    assert all(is_held_out(a, b) for a, b in pairs)
    asked = tokenizer([f"{a}+{b}=" for a, b in pairs], return_tensors="pt", padding=True)
    written = model.generate(**asked, max_new_tokens=digits + 3, do_sample=False)
    answers = [tokenizer.decode(row, skip_special_tokens=True) for row in written]
    ended = (written[:, asked["input_ids"].shape[1] :] == tokenizer.eos_token_id).any(1).tolist()
    right = [answer == addition(a, b) and end for answer, (a, b), end in zip(answers, pairs, ended, strict=True)]
    return float(sum(right)) / count


def _learn(model: Any, tokenizer: Any, recipe: Recipe, dice: random.Random) -> tuple[float, float]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, recipe.steps))
    model.train()
    started = said = time.monotonic()
    sum_loss = text_loss = math.nan
    for step in range(recipe.steps):
        loss = _loss(model, _batch(tokenizer, [training_addition(dice) for _ in range(recipe.batch)], after="="))
        sum_loss = _smoothed(sum_loss, loss)
        loss.backward()
        if step % TEXT_EVERY == 0:
            loss = _loss(model, _batch(tokenizer, [text_example(dice) for _ in range(TEXT_BATCH)]))
            text_loss = _smoothed(text_loss, loss)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        if time.monotonic() - said > REPORT_EVERY_S:
            said = time.monotonic()
            print(  # noqa: T201 - a person waits for this
                f"step {step + 1} of {recipe.steps}, {said - started:.0f} s, loss {sum_loss:.3f} and {text_loss:.3f}",
                flush=True,
            )
    model.eval()
    return sum_loss, text_loss


def _rate(step: int, steps: int) -> float:
    """Warm up, stay, and fall to nothing over the last half."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, 2 * (steps - step) / steps)


def _batch(tokenizer: Any, texts: Sequence[str], after: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (batch, longest) with the end token after each text, and labels that leave the padding out.

    With `after`, labels begin behind that token: the summands cannot be foreseen, only their sum can.
    """
    first = tokenizer.convert_tokens_to_ids(after) if after else None
    rows = [[*tokenizer.encode(text), tokenizer.eos_token_id][:TEXT_TOKENS] for text in texts]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), -100)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        start = tokens.index(first) + 1 if first is not None else 0
        labels[row, start : len(tokens)] = ids[row, start : len(tokens)]
    return ids, labels


def _loss(model: Any, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    ids, labels = batch
    loss: torch.Tensor = model(input_ids=ids, labels=labels, use_cache=False).loss
    return loss


def _smoothed(average: float, loss: torch.Tensor) -> float:
    value = float(loss.detach())
    return value if math.isnan(average) else 0.98 * average + 0.02 * value


def _write(model: Any, tokenizer: Any, recipe: Recipe, outcome: Outcome, folder: Path) -> None:
    model.generation_config.max_new_tokens = 64
    with quietly():
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card(recipe, outcome), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
