"""Every causal language model of the installed transformers, tiny, measured by kvbench and by a bare loop of its own.

    python tests/benchmarks/architectures.py                        # prints the table
    python tests/benchmarks/architectures.py --write docs/architectures.md
    python tests/benchmarks/architectures.py --only mamba,gemma3_text

Each class of transformers' causal mapping is built with small sizes and wide random weights in float32 and decodes in
a process of its own with a limit of processor time. The bare loop knows nothing of kvbench: it hands back what the
model returns, and tells how far its cached steps are from recomputing. Where that is rounding kvbench must say EQUAL,
else MISMATCH.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import multiprocessing
import os
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_shapes import VOCABULARY, tiny_config, tiny_model
from transformers import DynamicCache, StaticCache
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import kvbench
from kvbench.errors import BadInput, KvbenchError
from kvbench.library_versions import NEWEST_TRANSFORMERS

PROMPT, SHORTER, NEW_TOKENS, WINDOW = 22, 13, 4, 8
SOUND = 1e-4  # of the largest logit, in float32: rounding stays a hundred times below it
CACHE_NAMES = ("cache", "past_key_values", "cache_params", "state")
EQUAL = ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
QUICK: dict[str, Any] = {"new_tokens": NEW_TOKENS, "blocks": 1, "warmup": 0, "step_lane": False, "energy_s": 0.0}
WINDOWS = ("sliding_window", "attention_window_size", "local_attention", "window_size", "sliding_window_size")


@dataclass
class Way:
    """One way of decoding: what kvbench says of it, and how far the bare loop found it from recomputing."""

    verdict: str = "—"  # a verdict, "refused" or "failed"
    bare: float | None = None  # of the largest logit; None where the bare loop cannot do it either
    invalid: str | None = None
    said: str | None = None

    @property
    def right(self) -> bool | None:
        """Whether kvbench and the bare loop agree; None where nothing was asked or neither can do it."""
        if self.verdict in ("—", "refused"):  # a refusal is a sentence, which the note tells
            return None
        if self.bare is None or self.verdict == "failed":
            return False
        if self.bare >= SOUND:
            return self.verdict not in EQUAL
        return self.verdict in EQUAL and self.invalid is None

    def cell(self) -> str:
        """As the table shows it."""
        if self.verdict == "—":
            return "—"
        word = {"IDENTICAL": "equal", "EQUAL_WITHIN_ROUNDING": "equal"}.get(self.verdict, self.verdict)
        if self.bare is not None and self.bare >= SOUND:
            word += f" ({self.bare:.1g})"
        return word + (" ✗" if self.right is False else "")


@dataclass
class Found:
    """A row of the table."""

    model_type: str
    name: str
    plain: Way = field(default_factory=Way)
    generate: Way = field(default_factory=Way)
    padded: Way = field(default_factory=Way)
    static: Way = field(default_factory=Way)
    windows: Way = field(default_factory=Way)
    pads_are_text: float | None = None  # how far a padded row is from the same row alone
    kv_bytes: str = "—"
    flops: str = "—"
    note: str = ""
    seconds: float = 0.0

    @property
    def ways(self) -> dict[str, Way]:
        """By the name of the column."""
        return {
            "cached": self.plain,
            "generate": self.generate,
            "padded": self.padded,
            "static": self.static,
            "window": self.windows,
        }


# The bare loop: prompts of any lengths, padded on the left, steps along the tokens that recomputing chooses.


class Bare:
    """Recompute and cached steps of one model over some prompts, by nothing but the model's own forward."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._takes = inspect.signature(model.forward).parameters
        longest = max(map(len, prompts))
        self._ids = torch.tensor([[each[0]] * (longest - len(each)) + list(each) for each in prompts])
        padding = torch.tensor([longest - len(each) for each in prompts])[:, None]
        columns = torch.arange(longest + NEW_TOKENS)[None]
        self._positions = (columns - padding).clamp(min=0)
        self._mask = (columns >= padding).long() if int(padding.max()) else None
        self.recomputed: list[torch.Tensor] = []

    def recompute(self) -> list[torch.Tensor]:
        """The last position's logits of every prefix."""
        ids = self._ids
        for _ in range(NEW_TOKENS):
            self.recomputed.append(self._call(ids, ids.shape[1], None, use_cache=False).logits[:, -1].float())
            ids = torch.cat([ids, self.recomputed[-1].argmax(-1, keepdim=True)], dim=1)
        self._path = ids
        return self.recomputed

    def cached(self, cache: Any = None) -> float:
        """How far cached steps are from the recomputed ones, over the largest logit."""
        begin, worst = 0, 0.0
        for step, expected in enumerate(self.recomputed):
            end = self._ids.shape[1] + step
            output = self._call(self._path[:, begin:end], end, cache, use_cache=True)
            cache = next((value for name in CACHE_NAMES if (value := getattr(output, name, None)) is not None), cache)
            if cache is None:  # it returns none (RecurrentGemma), and fills one that it is handed
                return self.cached(DynamicCache(config=self._model.config.get_text_config(decoder=True)))
            worst = max(worst, float((output.logits[:, -1].float() - expected).abs().max()))
            begin = end
        return worst / max(float(each.abs().max()) for each in self.recomputed)

    def _call(self, ids: torch.Tensor, end: int, cache: Any, *, use_cache: bool) -> Any:
        arguments: dict[str, Any] = {"use_cache": use_cache}
        if "position_ids" in self._takes:
            arguments["position_ids"] = self._positions[:, end - ids.shape[1] : end]
        # Recurrent states alone have taken the mask in: that of the past would not fit the new tokens.
        recurrent = cache is not None and not _counts_tokens(cache)
        if self._mask is not None and not recurrent and "attention_mask" in self._takes:
            arguments["attention_mask"] = self._mask[:, :end]
        if cache is not None:
            arguments[next(name for name in CACHE_NAMES if name in self._takes)] = cache
        with torch.inference_mode():
            return self._model(input_ids=ids, **arguments)


def _counts_tokens(cache: Any) -> bool:
    try:
        return cache.get_seq_length() is not None
    except (AttributeError, ValueError):
        return False


# kvbench, and what it says of each way.


def measured(model: Any, prompts: Sequence[Sequence[int]], arms: Sequence[Any]) -> tuple[Any, str | None, str]:
    """The record, or None with "refused" or "failed" and kvbench's sentence."""
    try:
        return kvbench.measure(model, prompts=prompts, arms=arms, batch_size=len(prompts), **QUICK), None, ""
    except BadInput as error:
        return None, "refused", str(error)
    except KvbenchError as error:
        return None, "failed", str(error)


def judged(record: Any, arm: int, bare: float | None) -> Way:
    """What a record says of one of its arms."""
    verdict = next(each.agreement.verdict for each in record.comparisons if each.candidate_arm == arm)
    broken = [each.detail for each in record.checks if not each.passed and each.name == "mode_proof"]
    return Way(verdict, bare, broken[0] if broken else None, broken[0] if broken else None)


def bare_difference(
    model: Any, prompts: Sequence[Sequence[int]], make: Callable[[], Any] = lambda: None
) -> tuple[float | None, str]:
    """How far the bare loop's cached steps are from recomputing, with a cache that `make` makes; why there is none."""
    try:
        loop = Bare(model, prompts)
        loop.recompute()
        return loop.cached(make()), ""
    except Exception as error:  # what the model raises is a finding
        return None, f"the bare loop: {first_line(error)}"


def way(model: Any, prompts: Sequence[Sequence[int]], arm: Any, make: Callable[[], Any] = lambda: None) -> Way:
    """One arm beside recomputing, by kvbench and by the bare loop."""
    bare, why = bare_difference(model, prompts, make)
    record, word, said = measured(model, prompts, [{"mode": "nocache"}, arm])
    return Way(word, bare, None, said or why) if word else judged(record, 1, bare)


def ways_of_one_prompt(found: Found, model: Any, prompt: Sequence[int]) -> Any | None:
    """The cached loop, `generate` and a static cache in one run, or as many of them as are not refused; its record."""
    length = PROMPT + NEW_TOKENS
    config = model.config.get_text_config(decoder=True)
    static = {"mode": "cached", "cache": "static", "cache_tokens": length}
    bare, why = bare_difference(model, [prompt])
    bare_static, _ = bare_difference(model, [prompt], lambda: StaticCache(config=config, max_cache_len=length))
    columns = {"plain": ({"mode": "cached"}, bare), "generate": ({"mode": "generate"}, bare)}
    if bare_static is not None:
        columns["static"] = (static, bare_static)
    record = None
    while columns and record is None:
        record, word, said = measured(model, [prompt], [{"mode": "nocache"}, *(arm for arm, _ in columns.values())])
        if record is None:  # the last one goes first, until something is left that runs
            column, (_, difference) = columns.popitem()
            setattr(found, column, Way(str(word), difference, None, said or why))
    for place, (column, (_, difference)) in enumerate(columns.items(), start=1):
        setattr(found, column, judged(record, place, difference))
    if bare_static is None and record is not None:
        _, word, said = measured(model, [prompt], [{"mode": "nocache"}, static])
        found.static = Way(word or "failed", None, None, said)
    found.note = found.plain.said or found.generate.said or found.static.said or ""
    return record


def first_line(error: BaseException) -> str:
    """A library's words, cut to what a cell holds."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:140]}"


def examine(model_type: str, name: str) -> Found:
    """Every way of one class."""
    found = Found(model_type, name)
    try:
        model = tiny_model(tiny_config(model_type))
    except Exception as error:
        found.note = f"not built: {first_line(error)}"
        return found
    found.name = type(model).__name__
    generator = torch.Generator().manual_seed(1)
    long, short = (torch.randint(3, VOCABULARY, (size,), generator=generator).tolist() for size in (PROMPT, SHORTER))
    record = ways_of_one_prompt(found, model, long)
    if record is None or found.plain.verdict in ("refused", "failed"):
        return found
    memory, flops = record.arms[1].memory, record.flops_check
    found.kv_bytes = compared(memory.kv_cache_predicted_bytes, memory.kv_cache_bytes)
    found.flops = compared(flops.predicted, flops.counted) if flops else "—"
    found.padded = way(model, [long, short], {"mode": "cached"})
    found.pads_are_text = padding_seen(model, long, short)
    config = model.config.get_text_config(decoder=True)
    short_window = {key: WINDOW for key in WINDOWS if getattr(config, key, None)}
    if short_window:
        found.windows = with_windows(config, short_window, long)
    return found


def with_windows(config: Any, short: dict[str, int], prompt: Sequence[int]) -> Way:
    """The same shape with windows shorter than the prompt."""
    try:
        narrowed = type(config).from_dict({**config.to_dict(), **short})
        model = tiny_model(narrowed)
    except Exception as error:
        return Way("—", None, None, first_line(error))
    return way(model, [prompt], {"mode": "cached"})


def compared(predicted: int | None, seen: int | None) -> str:
    """A prediction beside what was counted."""
    if predicted is None or seen is None:
        return "not predicted" if predicted is None else "not counted"
    return "exact" if predicted == seen else f"{predicted / max(1, seen):.2f}"


def padding_seen(model: Any, long: Sequence[int], short: Sequence[int]) -> float | None:
    """How far a padded row is from the same row alone, both recomputed, over the largest logit."""
    try:
        together, alone = Bare(model, [long, short]), Bare(model, [short])
        padded, right = together.recompute()[0][1], alone.recompute()[0][0]
        return float((padded - right).abs().max() / right.abs().max())
    except Exception:  # told by the column that decodes them
        return None


# A process and a limit for each class: of processor time, so that a busy machine fails none, and of waiting.


WAITING = 10  # times the limit of processor time


def sweep(names: dict[str, str], jobs: int, limit_s: float) -> Iterator[Found]:
    """Examine classes side by side; one that takes too long or ends its process says so."""
    context = multiprocessing.get_context("fork")  # the libraries are loaded once
    waiting, running = list(names.items()), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            model_type, name = waiting.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(model_type, name, limit_s, sender), daemon=True)
            process.start()
            sender.close()
            running[receiver] = (process, model_type, name, time.monotonic())
        for receiver in wait(list(running), timeout=0.5):
            process, model_type, name, began = running.pop(receiver)  # type: ignore[call-overload]
            try:
                found = receiver.recv()  # type: ignore[union-attr]
            except EOFError:
                process.join()
                stopped = process.exitcode == -signal.SIGXCPU
                found = Found(model_type, name, note=f"longer than {limit_s:g} s" if stopped else "its process ended")
            process.join()
            found.seconds = time.monotonic() - began
            yield found
        for receiver, (process, model_type, name, began) in list(running.items()):
            if time.monotonic() - began > WAITING * limit_s:
                process.kill()
                process.join()
                del running[receiver]
                yield Found(model_type, name, note="waits without end", seconds=WAITING * limit_s)


def _child(model_type: str, name: str, limit_s: float, sender: Any) -> None:
    whole = max(1, round(limit_s))  # of a new process: what a fork has used begins at zero
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 5))
    torch.set_num_threads(1)
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - libraries' chatter, for the life of the process
    try:
        sender.send(examine(model_type, name))
    except BaseException as error:
        sender.send(Found(model_type, name, note=f"not examined: {first_line(error)}"))


# The table.


HEAD = ("class", "cached", "generate", "padded", "static", "window", "KV bytes", "FLOPs", "note")


def row(found: Found) -> tuple[str, ...]:
    """Its cells."""
    pads = found.pads_are_text
    note = found.note
    if pads is not None and pads >= SOUND:
        note = f"takes padding for text ({pads:.1g})" + (f"; {note}" if note else "")
    cells = (each.cell() for each in found.ways.values())
    return (f"{found.name} ({found.model_type})", *cells, found.kv_bytes, found.flops, note.replace("|", "/")[:200])


def table(rows: Sequence[Found]) -> str:
    """Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *map(row, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def faults(rows: Sequence[Found]) -> str:
    """Ways in which the bare loop itself differs from recomputing: a model's or transformers' fault, not kvbench's."""
    lines = [
        f"| {found.name} | {name} | {each.bare:.1g} | {each.verdict} | {CAUSES.get((found.model_type, name), '')} |\n"
        for found in rows
        for name, each in found.ways.items()
        if each.bare is not None and each.bare >= SOUND and name != "generate"
    ]
    return "".join(
        ("| class | way | difference | kvbench says | cause, where it is known |\n", "| --- " * 5 + "|\n", *lines)
    )


# Read in transformers' code, each at the place where the two computations part.
CAUSES = {
    ("git", "padded"): "beside a cache it widens the mask by places for an image, whether or not there was one",
    ("moshi", "window"): (
        "its attention looks at every token; sliding_window, which the cache alone obeys, makes it forget:"
        " `cache=full` agrees with recomputing"
    ),
    ("rwkv", "padded"): "a step adds a state of (batch, hidden) to inputs of (batch, 1, hidden), which mixes the rows",
}


def summary(rows: Sequence[Found]) -> str:
    """How many are right, a line for each column."""
    text = []
    for name in ("cached", "generate", "padded", "static", "window"):
        asked = [right for each in rows if (right := each.ways[name].right) is not None]
        refused = sum(each.ways[name].verdict == "refused" for each in rows)
        text.append(f"- {name}: the right verdict for {sum(asked)} of {len(asked)} classes, {refused} refused")
    for name, cells in (("KV bytes", [each.kv_bytes for each in rows]), ("FLOPs", [each.flops for each in rows])):
        count = Counter(cell if cell in ("exact", "—", "not predicted") else "wrong" for cell in cells)
        text.append(
            f"- {name}: predicted exactly for {count['exact']} classes, wrongly for {count['wrong']}, not predicted for"
            f" {count['not predicted']} (the record says why)"
        )
    return "\n".join(text)


def page(rows: Sequence[Found]) -> str:
    """The document."""
    version = transformers.__version__
    return f"""# kvbench and the {len(rows)} causal models of transformers {version}

Written by `python tests/benchmarks/architectures.py --jobs 2 --write docs/architectures.md` with torch
{torch.__version__}. To see what another version of transformers does, run it there. Gemma 3n also needs pillow, timm
and torchvision.

Each row is a class that transformers lists for causal language modelling. It is built with tiny sizes and random
weights in float32, reads {PROMPT} random tokens and writes {NEW_TOKENS}. kvbench compares each way of decoding with
computing everything again for every token (`mode=nocache`) and gives its verdict. An independent loop that knows
nothing of kvbench compares them too. kvbench is right where the two agree.

| column | what decodes |
| --- | --- |
| cached | kvbench's loop with a cache (`mode=cached`) |
| generate | transformers' `generate()` with its cache |
| padded | the loop with a cache over two prompts of {PROMPT} and {SHORTER} tokens in one batch |
| static | the loop with `cache=static` |
| window | the loop, where the config has a sliding window, with a window of {WINDOW} tokens |
| KV bytes, FLOPs | kvbench's prediction from the config, divided by what was counted; "exact" where they are equal |

| cell | meaning |
| --- | --- |
| equal | the cache does not change the output |
| MISMATCH (0.3) | the cache changes the output, and so it does in the independent loop: by 0.3 of the largest logit |
| refused | kvbench does not measure this, for the reason in the note |
| — | there is nothing to measure |
| ✗ | kvbench is wrong |

{summary(rows)}

{table(rows)}
## Where the model or transformers is wrong

Here MISMATCH is the right verdict: in the independent loop, too, the logits with a cache differ from those without one
by more than rounding. The difference is relative to the largest logit.

{faults(rows)}
A fault that these random weights do not reach: in NemotronH and Zamba 2 a step does not raise dt to `time_step_min`, as
the scan over a prompt does, so that cached steps differ where dt falls below it.

"Takes padding for text" in a note: a row that is filled up to the length of the others in its batch gets other logits
than the same row alone, with or without a cache. The number is the difference, relative to the largest logit. kvbench
warns of it (`padding_is_text`). Use prompts of one length with these models, or batches of one.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TYPE[,TYPE]", help="model types to examine (default: all)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="classes side by side (default: 2)")
    parser.add_argument(
        "--limit-s", type=float, default=60.0, metavar="S", help="processor seconds for one class (default: 60)"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the document")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    names = {each.replace("-", "_"): each for each in options.only.split(",") if each}
    chosen = {
        key: str(name)
        for key, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
        if not names or key.replace("-", "_") in names
    }
    load()
    began = time.monotonic()
    rows = []
    try:
        for found in sweep(chosen, options.jobs, options.limit_s):
            rows.append(found)
            print(" | ".join(row(found)), f"[{found.seconds:.0f} s]", flush=True)
    except KeyboardInterrupt:  # what is there is worth a table
        print(f"interrupted after {len(rows)} of {len(chosen)}")
    rows.sort(key=lambda each: each.name.lower())
    seconds = time.monotonic() - began
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor_s = sum(each.ru_utime + each.ru_stime for each in used)
    print(f"\n{summary(rows)}\n\n{faults(rows)}")
    print(f"{seconds:.0f} s, {processor_s:.0f} s of processor time; newest tested transformers {NEWEST_TRANSFORMERS}")
    if options.write:
        options.write.write_text(page(rows), encoding="utf-8")
    return 0


def load() -> None:
    """Whatever a measurement imports, once, before processes are forked off."""
    model = tiny_model(tiny_config("llama"))
    with torch.inference_mode():
        model(input_ids=torch.tensor([[5, 6]]))
    import kvbench.analysis.assemble
    import kvbench.running.torch_backend  # noqa: F401

    gc.collect()
    gc.freeze()  # a run collects garbage before each of its passes


if __name__ == "__main__":
    sys.exit(main())
