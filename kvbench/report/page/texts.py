"""The prompts of a run and what each arm wrote after them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice

from kvbench.arm import arm_names
from kvbench.records.store import PROMPTS, StoredRun

MAX_PROMPTS = 12  # enough to see what the model does; the rest is in the run folder
MAX_CHARACTERS = 1500  # of one text; a long prompt is cut in the middle, where it says least


@dataclass(frozen=True)
class Completion:
    """One text, and the arms that wrote it."""

    arms: str
    text: str
    finish: str


@dataclass(frozen=True)
class Exchange:
    """One prompt with its completions, equal ones together."""

    prompt: str | None
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Produced:
    """The texts of a run; `note` says whether the arms agree and what is left out."""

    exchanges: tuple[Exchange, ...]
    note: str


def produced_texts(run: StoredRun) -> Produced:
    """What every arm wrote in its untimed pass. A prompt is None when the run folder does not hold it."""
    record = run.record
    count = max((len(arm.texts) for arm in record.arms), default=0)
    if not count:
        return Produced((), "No text was produced: the run ended before its untimed pass.")
    prompts = prompt_texts(run)
    exchanges = tuple(
        Exchange(
            prompt=prompts[index] if index < len(prompts) else None,
            completions=_completions(run, index),
        )
        for index in range(min(count, MAX_PROMPTS))
    )
    return Produced(exchanges, _note(run, count))


def _completions(run: StoredRun, index: int) -> tuple[Completion, ...]:
    writers: dict[tuple[str, str], list[str]] = {}
    for name, arm in zip(arm_names(run.record.arms), run.record.arms, strict=True):
        if index < len(arm.texts):
            finish = arm.finish_reason[index] if index < len(arm.finish_reason) else ""
            writers.setdefault((arm.texts[index], finish), []).append(name)
    return tuple(Completion(", ".join(names), _shortened(text), finish) for (text, finish), names in writers.items())


def _note(run: StoredRun, count: int) -> str:
    arms = run.record.arms
    parts = []
    if len(arms) > 1:
        same = all(arm.texts == arms[0].texts for arm in arms)
        parts.append("All arms wrote the same text." if same else "The arms wrote different texts.")
    if count > MAX_PROMPTS:
        parts.append(f"The first {MAX_PROMPTS} of {count} prompts.")
    return " ".join([*parts, "From an untimed generation of the whole length."])


def prompt_texts(run: StoredRun) -> list[str]:
    """The first prompts as the page shows them; none where the run folder does not hold them."""
    try:
        with (run.folder / PROMPTS).open(encoding="utf-8", errors="replace") as lines:
            return [_shortened(str(json.loads(line)["text"])) for line in islice(lines, MAX_PROMPTS)]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # a report without its prompts is better than none


def _shortened(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
