"""Prompts out of a file or out of the package, as text. Turning them into token ids needs the model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from kvbench.errors import PromptError

BUNDLED = Path(__file__).parent / "workloads" / "bundled.txt"  # short prompts, one a line
LONG = Path(__file__).parent / "workloads" / "long.txt"  # one text, to be cut or repeated to a length in tokens


def bundled_prompts() -> tuple[str, ...]:
    """The prompts that come with kvbench, in English and Chinese."""
    return read_prompts(BUNDLED)


def long_text() -> str:
    """The text that `workload.prompt_tokens` cuts or repeats."""
    return LONG.read_text(encoding="utf-8").strip()


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a file, in its order: JSONL with the key `prompt` when it ends in .jsonl, else text, one a line.

    Empty lines are skipped. Raises `PromptError` naming the file and the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PromptError(f"workload.prompts={path}: line {line} is not UTF-8; save the file as UTF-8 text") from error
    except FileNotFoundError as error:
        raise PromptError(f"workload.prompts={path}: no such file") from error
    except OSError as error:
        raise PromptError(f"workload.prompts={path}: cannot read ({error.strerror})") from error
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not numbered:
        raise PromptError(f"workload.prompts={path}: holds no prompt; write one a line")
    if path.suffix == ".jsonl":
        return tuple(_prompt_of(path, number, line) for number, line in numbered)
    return tuple(line.removesuffix("\r") for _, line in numbered)


def _prompt_of(path: Path, number: int, line: str) -> str:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise PromptError(f"workload.prompts={path}: line {number} is not JSON") from error
    prompt = entry.get("prompt") if isinstance(entry, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise PromptError(f'workload.prompts={path}: line {number} has no text under the key "prompt"')
    return prompt
