"""Finished texts with the log-probabilities that decoding gave their answers: from Python, or a file of JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvbench.errors import ConfigError
from kvbench.rounding_limits import resolution

LARGEST = 0.01  # nats: of a log-probability, which rounding may leave a little above 0
FORMS = '{"prompt_ids": […], "ids": […], "logprobs": […]} or {"ids": […], "prompt_tokens": N, "logprobs": […]}'


@dataclass(frozen=True)
class GivenText:
    """All ids of a text, how many of them are the prompt, and the log-probabilities of the rest."""

    ids: tuple[int, ...]
    prompt_tokens: int
    log_probabilities: tuple[float, ...] | None = None  # in nats; None: the model is to decode along the text
    where: str = ""  # that it was given, for a person: "line 3"
    written_to: float = 0.0  # half a unit in the last place of the log-probabilities, in nats


class Written(float):
    """A number as it stood in a file: `decimals` behind its point."""

    decimals: int

    def __new__(cls, text: str) -> Written:
        """The number of a JSON text."""
        number = super().__new__(cls, text)
        mantissa, _, exponent = text.lower().partition("e")
        number.decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
        return number


def given_texts(ids: Any, logprobs: Any, prompt_tokens: int | Sequence[int] | None) -> tuple[GivenText, ...]:
    """One text or several, as lists, arrays or tensors. Raises `ConfigError` with what is wrong and in which text."""
    every, scores = _as_list(ids), None if logprobs is None else _as_list(logprobs)
    if every and not isinstance(every[0], list):
        every, scores = [every], None if scores is None else [scores]
    if not every:
        raise ConfigError("ids: there is no text; give a list of token ids, or a list of such lists")
    if scores is not None and len(scores) != len(every):
        raise ConfigError(f"logprobs: {len(scores)} lists for {len(every)} texts; give one list for each text")
    if scores is None and prompt_tokens is None:
        raise ConfigError("prompt_tokens: say how many of the ids are the prompt, or give the answer's logprobs")
    prompts: list[Any] = [prompt_tokens] * len(every)
    if isinstance(prompt_tokens, Sequence):
        prompts = list(prompt_tokens)
    if len(prompts) != len(every):
        raise ConfigError(f"prompt_tokens: {len(prompts)} numbers for {len(every)} texts; give one for each text")
    texts = []
    for number, (row, prompt) in enumerate(zip(every, prompts, strict=True)):
        own = None if scores is None else scores[number]
        prompt = len(row) - len(own) if prompt is None and own is not None else prompt
        try:
            texts.append(_checked(row, prompt, own, f"text {number}", _dtype(logprobs, number)))
        except ValueError as error:
            raise ConfigError(f"text {number}: {error}") from None
    return tuple(texts)


def read_texts(path: Path) -> tuple[tuple[GivenText, ...], list[str]]:
    """The texts of a file of JSON lines, and a sentence for each line that is none.

    Empty lines are passed over. Raises `ConfigError` for a file that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason})") from None
    texts, wrong = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                texts.append(_of_line(line, f"line {number}"))
            except ValueError as error:
                wrong.append(f"line {number}: {error}")
    return tuple(texts), wrong


def unfit(texts: Iterable[GivenText], vocabulary: int | None, longest: int | None) -> list[str]:
    """A sentence for each text that a model of this vocabulary and context cannot have written."""
    wrong = []
    for text in texts:
        beyond = next((token for token in text.ids if vocabulary is not None and token >= vocabulary), None)
        if beyond is not None:
            wrong.append(
                f"{text.where}: id {beyond} is outside the model's vocabulary of {vocabulary:,} tokens: give the ids of"
                " this model's tokenizer, or name the model that wrote them"
            )
        elif longest is not None and len(text.ids) > longest:
            wrong.append(
                f"{text.where}: {len(text.ids):,} ids are more than the model's context of {longest:,}: leave it out"
            )
    return wrong


def _in_half_units(logprobs: Sequence[Any], dtype: str) -> float:
    """Half a unit in the last place that log-probabilities were written to, in nats; 0 for float32 and finer.

    Their decimals in a file, or the 16-bit type of an array or a tensor.
    """
    decimals = [each.decimals for each in logprobs if isinstance(each, Written)]
    of_file = 0.5 * 10.0 ** -max(decimals) if decimals else 0.0
    narrow = next((name for name in ("bfloat16", "float16") if dtype.endswith(name)), None)
    of_type = 0.5 * resolution(narrow) * max(map(abs, logprobs), default=0.0) if narrow else 0.0
    return max(of_file, of_type)


def _of_line(line: str, where: str) -> GivenText:
    try:
        entry = json.loads(line, parse_float=Written)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON: write one object per line") from None
    if not isinstance(entry, dict):
        raise ValueError(f"is no JSON object: write {FORMS}")
    missing = [name for name in ("ids", "logprobs") if entry.get(name) is None]
    if missing or not {"prompt_ids", "prompt_tokens"} & entry.keys():
        name = missing[0] if missing else "prompt_ids or prompt_tokens"
        raise ValueError(f"has no {name}: write {FORMS}")
    ids, prompt_tokens = entry["ids"], entry.get("prompt_tokens")
    if "prompt_ids" in entry:
        prompt = entry["prompt_ids"]
        if not isinstance(prompt, list) or not isinstance(ids, list):
            raise ValueError("prompt_ids and ids are lists of token ids")
        if prompt_tokens is not None and prompt_tokens != len(prompt):
            raise ValueError(f"prompt_tokens is {prompt_tokens} and prompt_ids has {len(prompt)}: leave one out")
        ids, prompt_tokens = [*prompt, *ids], len(prompt)
    return _checked(ids, prompt_tokens, entry["logprobs"], where)


def _checked(ids: Any, prompt_tokens: Any, logprobs: Any, where: str, dtype: str = "") -> GivenText:
    """Raises `ValueError` with what is wrong and what to do."""
    if not isinstance(ids, list):
        raise ValueError("ids is a list of token ids")
    for each in ids:
        if type(each) is not int or each < 0:
            raise ValueError(f"{each!r} is no token id: ids are whole numbers from 0 on")
    if type(prompt_tokens) is not int or not 0 <= prompt_tokens <= len(ids):
        raise ValueError(f"prompt_tokens is {prompt_tokens!r}: give the number of ids that are the prompt")
    if prompt_tokens == 0:
        raise ValueError("the prompt has no token, so nothing predicts the first one: give at least one")
    if len(ids) == prompt_tokens:
        raise ValueError("the answer has no token: leave the line out")
    if logprobs is None:
        return GivenText(tuple(ids), prompt_tokens, None, where)
    if not isinstance(logprobs, list):
        raise ValueError("logprobs is a list of numbers, one for each token of the answer")
    answer = len(ids) - prompt_tokens
    if len(logprobs) != answer:
        raise ValueError(
            f"{len(logprobs)} logprobs for an answer of {answer} tokens: give one for each, and none for the prompt"
        )
    for place, value in enumerate(logprobs):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"logprobs[{place}] is {value!r}: give the token's natural log-probability as a number")
        if not math.isfinite(value):
            raise ValueError(
                f"logprobs[{place}] is {float(value)}: a token that was chosen has a finite one; take it before top-p"
                " and top-k cut the distribution"
            )
        if value > LARGEST:
            raise ValueError(
                f"logprobs[{place}] is {float(value):g}, above 0: give natural logarithms of probabilities, not the"
                " probabilities or the logits"
            )
    return GivenText(tuple(ids), prompt_tokens, tuple(logprobs), where, _in_half_units(logprobs, dtype))


def _dtype(logprobs: Any, number: int) -> str:
    """The type of an array or a tensor, of all texts or of one; empty for Python's numbers."""
    one = logprobs[number] if isinstance(logprobs, (list, tuple)) and number < len(logprobs) else logprobs
    return str(getattr(one, "dtype", ""))


def _as_list(values: Any) -> list[Any]:
    """Lists of whatever nests lists, arrays or tensors."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        raise ConfigError(f"ids and logprobs are lists, arrays or tensors, not {type(values).__name__}")
    return [
        _as_list(each) if isinstance(each, (list, tuple)) or getattr(each, "ndim", False) else _number(each)
        for each in values
    ]


def _number(value: Any) -> Any:
    """A tensor's or an array's single number as Python's own."""
    return value.item() if hasattr(value, "item") else value
