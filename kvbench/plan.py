"""A run, decided: everything the measuring side needs, with defaults resolved and prompts read."""

from __future__ import annotations

import json
import random
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from kvbench.arm import Arm
from kvbench.capabilities import INTERRUPTED
from kvbench.config.schema import Config
from kvbench.errors import PromptError
from kvbench.passes import default_steps
from kvbench.text import is_unicode

# Prompts out of a file or out of the package, as text. Turning them into token ids needs the model's tokenizer.


BUNDLED = Path(__file__).parent / "workloads" / "bundled.txt"  # short prompts, one a line
MOST_BYTES = 256 * 2**20  # of a file of prompts: all of it is held in memory
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
        text = _bounded(path).decode("utf-8-sig")
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


def _bounded(path: Path) -> bytes:
    """The content of an ordinary file; a pipe would be empty when it is read again, and a device may never end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # reading a folder says so itself
        raise PromptError(f"workload.prompts={path}: not an ordinary file; write the prompts to one")
    if status.st_size > MOST_BYTES:
        raise PromptError(f"workload.prompts={path}: larger than {MOST_BYTES // 2**20} MiB; use fewer prompts")
    return path.read_bytes()


def _prompt_of(path: Path, number: int, line: str) -> str:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"workload.prompts={path}: line {number} is not JSON") from error
    prompt = entry.get("prompt") if isinstance(entry, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise PromptError(f'workload.prompts={path}: line {number} has no text under the key "prompt"')
    if not is_unicode(prompt):
        raise PromptError(f"workload.prompts={path}: line {number} holds half of a surrogate pair, which is no text")
    return prompt


# What a run is decided to be.


@dataclass(frozen=True)
class Prompts:
    """Texts to decode from; with `lengths`, one text, cut or repeated to each of them for each of `copies`.

    The copies begin alike for `shared` tokens, and go on elsewhere in the text.

    `token_ids`, from Python alone, stand in for the texts.
    """

    texts: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()  # tokens
    copies: int = 1
    shared: int = 0  # of a length, the first tokens that all copies have in common
    token_ids: tuple[tuple[int, ...], ...] = ()

    @property
    def count(self) -> int:
        """How many sequences there are to decode, where no lengths are given."""
        return len(self.token_ids or self.texts)


@dataclass(frozen=True)
class Attempt:
    """One size to be tried instead of measured: an arm over `rows` sequences, whose last pass sees `context` tokens.

    `limit_bytes` is what it may use, None for all that there is; `timeout_s` counts from the loaded model on.
    """

    arm: int
    rows: int
    context: int
    limit_bytes: int | None
    timeout_s: float


@dataclass(frozen=True)
class Plan:
    """One run. `config` keeps the settings below it; `arms` and `prompts` are what they resolve to."""

    config: Config
    name: str  # folder under results_dir
    model_name: str
    arms: tuple[Arm, ...]
    prompts: Prompts
    attempt: Attempt | None = None

    @property
    def interrupt_steps(self) -> tuple[int, ...]:
        """Indices of the new tokens before which every arm of this run is interrupted; empty when none is."""
        if not any(arm.mode in INTERRUPTED for arm in self.arms):
            return ()
        steps = self.config.interrupt.steps
        return default_steps(self.config.workload.new_tokens) if steps is None else tuple(sorted(set(steps)))

    @property
    def stop_rule(self) -> str | tuple[int | str, ...]:
        """ "ignore", "tokenizer", or the tokens that end a sequence, as ids or as text."""
        stop = self.config.workload.stop
        return tuple(stop) if isinstance(stop, list) else str(stop)

    def visiting_order(self, block: int) -> tuple[int, ...]:
        """The arms in the order in which this block visits them: random, and the same for the same seed."""
        order = list(range(len(self.arms)))
        random.Random(f"{self.config.measure.seed}:{block}").shuffle(order)  # noqa: S311 - an order, not a secret
        return tuple(order)


def most_proposed(plan: Plan, mode: str) -> int | None:
    """The most tokens that a pass of a mode may have to check; None where that grows on the way."""
    if mode == "prompt_lookup":
        return plan.config.prompt_lookup.prompt_lookup_num_tokens
    assisted = plan.config.assisted
    return assisted.num_assistant_tokens if assisted.num_assistant_tokens_schedule == "constant" else None


def make_plan(config: Config, prompts: Prompts | None = None) -> Plan:
    """Resolve a checked configuration; `prompts`, when given, replace the ones that it names.

    Raises `PromptError` when a prompt file is unusable, or holds too few prompts for one batch.
    """
    name = model_name(config)
    prompts = prompts or _prompts(config)
    size = config.workload.batch_size
    if not prompts.lengths and size > prompts.count:
        found = f"{prompts.count} prompt{'' if prompts.count == 1 else 's'}"
        raise PromptError(
            f"workload.batch_size={size}: the run has {found}, and no batch would hold as many: lower it, give more"
            " prompts, or set workload.prompt_tokens, which makes enough of one length"
        )
    return Plan(config, config.name or name, name, config.every_arm, prompts)


def model_name(config: Config) -> str:
    """The name of the model's file, or one taken from the hub id, the folder or the factory."""
    model = config.model
    if model.name == "hub" and model.id:
        return model.id.replace("/", "--")
    if model.name == "path" and model.path:
        return Path(model.path).resolve().name
    if model.name == "python" and model.target:
        return re.split(r"[:.]", model.target)[-1]
    return model.name


def _prompts(config: Config) -> Prompts:
    workload = config.workload
    if config.scaling.lengths is not None:
        return Prompts((long_text(),), tuple(sorted(set(config.scaling.lengths))), workload.batch_size)
    if workload.prompt_tokens is not None:
        return Prompts(
            (long_text(),), (workload.prompt_tokens,), workload.batch_size, shared=workload.shared_tokens or 0
        )
    if workload.prompt is not None:
        return Prompts((workload.prompt,))
    return Prompts(read_prompts(Path(workload.prompts)) if workload.prompts else bundled_prompts())
