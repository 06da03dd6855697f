"""What was meant by a key, a value or a word that does not exist: the nearest that does, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from kvbench.arm import PARTS
from kvbench.config.conf_files import groups, ready_files
from kvbench.config.schema import Config
from kvbench.errors import Mistyped
from kvbench.options import settings

KEYS = tuple(key for key, _, _ in settings(Config()))
HELP = "`python -m kvbench --help` lists the keys"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NEAR = 0.7  # of difflib's ratio; below it two words have little in common
# What other tools call the same, in lower case with underscores.
OTHER_NAMES = {
    "assistant_model": "assisted.model",
    "attn": "attention",
    "attn_implementation": "attention",
    "backend": "engine",
    "batch": "workload.batch_size",
    "bs": "workload.batch_size",
    "cache_implementation": "cache",
    "compile": "engine",
    "context_length": "workload.prompt_tokens",
    "cuda": "device",
    "draft": "assisted.model",
    "draft_model": "assisted.model",
    "gen_len": "workload.new_tokens",
    "gpu": "device",
    "input_len": "workload.prompt_tokens",
    "input_tokens": "workload.prompt_tokens",
    "isl": "workload.prompt_tokens",
    "iterations": "measure.blocks",
    "kv_cache": "cache",
    "lang": "language",
    "load_in": "model.quantization",
    "max_length": "workload.new_tokens",
    "max_new_tokens": "workload.new_tokens",
    "max_tokens": "workload.new_tokens",
    "min_new_tokens": "workload.new_tokens",
    "model_id": "model",
    "model_name": "model",
    "model_name_or_path": "model",
    "model_path": "model",
    "n_tokens": "workload.new_tokens",
    "num_draft_tokens": "assisted.num_assistant_tokens",
    "num_runs": "measure.blocks",
    "num_speculative_tokens": "assisted.num_assistant_tokens",
    "num_threads": "threads",
    "num_tokens": "workload.new_tokens",
    "osl": "workload.new_tokens",
    "output": "results_dir",
    "output_dir": "results_dir",
    "output_len": "workload.new_tokens",
    "output_tokens": "workload.new_tokens",
    "prompt_file": "workload.prompts",
    "prompt_len": "workload.prompt_tokens",
    "prompt_length": "workload.prompt_tokens",
    "quantize": "model.quantization",
    "repeat": "measure.blocks",
    "report.lang": "language",
    "report.language": "language",
    "repeats": "measure.blocks",
    "runs": "measure.blocks",
    "seq_len": "workload.prompt_tokens",
    "sequence_length": "workload.prompt_tokens",
    "stream": "stream.interval",
    "timeout": "measure.timeout_s",
    "torch_dtype": "model.dtype",
    "trials": "measure.blocks",
    "use_cache": "mode",
    "warmups": "measure.warmup",
}
OTHER_VALUES = {
    "attention": {"flash2": "flash_attention_2", "fa2": "flash_attention_2", "fa3": "flash_attention_3"},
    "cache": {"quantized": "quanto_int4"},
    "device": {"gpu": "cuda"},
    "engine": {
        "true": "compiled",
        "compile": "compiled",
        "torch_compile": "compiled",
        "inductor": "compiled",
        "cudagraph": "graph",
    },
    "mode": {
        "false": "nocache",
        "true": "cached",
        "cache": "cached",
        "kv": "cached",
        "kv_cache": "cached",
        "recompute": "nocache",
        "naive": "nocache_naive",
        "speculative": "assisted",
        "draft": "assisted",
        "ngram": "prompt_lookup",
        "prefix_cache": "prefix",
    },
    "model.quantization": {"int4": "nf4", "4bit": "nf4", "8bit": "int8", "fp4": "nf4"},
}
# Where a value belongs that its key does not take.
ELSEWHERE = {
    **{("model.dtype", bits): f"model.quantization=int{bits[-1]}_weight_only" for bits in ("int8", "int4")},
    ("model.dtype", "fp8"): "model.quantization=int8_weight_only for the weights, or cache=fp8 for the cache",
    ("model.dtype", "float8"): "model.quantization=int8_weight_only for the weights, or cache=fp8 for the cache",
    ("model.dtype", "nf4"): "model.quantization=nf4",
}


# What exists elsewhere and cannot be measured here, with the reason.
NOT_TO_BE_HAD = {
    ("cache", "kvpress"): (
        "kvpress up to 0.5.5 asks each pass for arguments that transformers no longer has since 5.3, so that it runs on"
        " no version that kvbench supports; a quantised cache such as cache=quanto_int4 saves memory too"
    )
}


def unknown_key(key: str, value: str | None = None) -> Mistyped:
    """The error for a key that does not exist, with those that may be meant, and the value that it was given."""
    return Mistyped(f"{key}: no such key; {_meant(meant_keys(key), value) or HELP}")


def unknown_arm_key(place: str, key: str) -> Mistyped:
    """The same for a key of one arm, such as `arms[0]`."""
    near = _near(key, PARTS)
    hint = f"did you mean {near[0]}? " if near else ""
    return Mistyped(f"{place}.{key}: no such key; {hint}allowed: {', '.join(PARTS)}")


def unknown_value(key: str, value: Any, allowed: Iterable[Any]) -> Mistyped:
    """The error for a value that a key or a group does not take."""
    names = [str(each) for each in allowed]
    if reason := NOT_TO_BE_HAD.get((key.rpartition(".")[2], str(value).lower())):
        return Mistyped(f"{key}={value}: {reason}")
    return Mistyped(f"{key}={value}: not known; {meant_value(key, str(value), names)}allowed: {', '.join(names)}")


def meant_value(key: str, value: str, allowed: Iterable[str]) -> str:
    """ "did you mean KEY=VALUE? " or nothing."""
    names = list(allowed)
    last = key.rpartition(".")[2]
    if (key, value.lower()) in ELSEWHERE:
        return f"did you mean {ELSEWHERE[key, value.lower()]}? "
    known = OTHER_VALUES.get(key, {}) or OTHER_VALUES.get(last, {})
    other = known.get(_plain(value), known.get(value.lower()))
    near = [other] if other in names else _near(value, [name for name in names if _digits(name) == _digits(value)])
    return f"did you mean {key}={near[0]}? " if near else ""


def stray_word(word: str, following: str | None = None) -> str | None:
    """What was meant by a word without `=`, or an option in another program's style; None when nothing is like it."""
    if homes := [f"{group}={word}" for group in groups() if word in ready_files(group)]:
        return f"{word}: settings are written KEY=VALUE; did you mean {' or '.join(homes)}?"
    name, equals, value = word.lstrip("-").partition("=")
    keys = meant_keys(name, strict=word.startswith("-"))
    if not keys:
        return None
    given = value if equals else following if following is not None and _is_value(following) else None
    return f"{word}: settings are written KEY=VALUE; {_meant(keys, '…' if given is None else given)}"


def meant_keys(name: str, *, strict: bool = False) -> list[str]:
    """The keys and groups that may be meant by a name, the likeliest first; `strict` wants more than a likeness."""
    names, plain = (*KEYS, *groups()), _plain(name)
    last = plain.rpartition(".")[2]
    if name in names:
        return [name]
    if plain in names:
        return [plain]
    if other := OTHER_NAMES.get(plain) or OTHER_NAMES.get(last):
        return [other]
    same = [key for key in KEYS if _letters(key) == _letters(plain)] or [
        key for key in KEYS if _letters(key.rpartition(".")[2]) == _letters(last)
    ]
    if same or len(plain) < 3:
        return same
    near = _near(plain, names, 0.85 if strict else NEAR)
    lasts = {key.rpartition(".")[2]: key for key in reversed(KEYS)}
    return near or [lasts[each] for each in _near(last, lasts, 0.85 if strict else NEAR)]


def is_hub_id(name: str) -> bool:
    """Whether a name has the form ORG/NAME."""
    return HUB_ID.fullmatch(name) is not None


def _meant(keys: list[str], value: str | None) -> str:
    if not keys:
        return ""
    shown = [key if value is None else f"{key}={_as_typed(_in_our_words(key, value))}" for key in keys]
    return f"did you mean {' or '.join(shown)}?"


def _in_our_words(key: str, value: str) -> str:
    """A value as its key takes it, where other tools have another word for it."""
    if key == "device" and value.isdigit():
        return f"cuda:{value}"
    return OTHER_VALUES.get(key, {}).get(_plain(value), value)


def _as_typed(value: str) -> str:
    return f"'{value}'" if " " in value and value[0] not in "'\"[{" else value


def _is_value(word: str) -> bool:
    return "=" not in word and not word.startswith("-")


def _near(word: str, names: Iterable[str], cutoff: float = NEAR) -> list[str]:
    """The nearest name, whatever the case and the hyphens."""
    by_letters = {_letters(name): name for name in names}
    if (exact := by_letters.get(_letters(word))) is not None:
        return [exact]
    return [by_letters[found] for found in get_close_matches(_letters(word), by_letters, n=1, cutoff=cutoff)]


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _letters(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter not in "-_ ")


def _digits(word: str) -> str:
    return "".join(letter for letter in word if letter.isdigit())
