"""Which file of a model's folder is to blame for what a library could not make of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import __version__ as transformers_version

from kvbench.errors import KvbenchError, ModelUnavailable, is_out_of_memory, reason_of
from kvbench.model_folder import PYTORCH, RESTORE, SAFETENSORS, read_object, weight_files
from kvbench.models.hub import explanation

CONFIG = ("config.json",)
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
)
WEIGHTS = (SAFETENSORS.index, PYTORCH.index, "generation_config.json")


@contextmanager
def blamed_on(folder: Path | None, files: Sequence[str], model: str) -> Iterator[None]:
    """What a library raises over these files of a folder becomes `ModelUnavailable`, which names the damaged one.

    Where none is damaged, the first is named with the library's own words: a file may be whole and say what makes no
    sense. Errors of our own pass, and so do those that `hub.explanation` has better words for, memory that ran out,
    and torch's own of a device. `model` is what the sentence calls the folder; without a folder, all that there is.
    """
    try:
        yield
    except KvbenchError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or type(error).__module__.startswith("torch"):
            raise
        if folder is not None:
            _require_undamaged(folder, files)
        if explanation(error, model) is not None:
            raise
        subject = f"{_first(folder, files)} of {model}" if folder is not None else model
        raise ModelUnavailable(
            f"transformers {transformers_version} can do nothing with {subject}"
            f" ({type(error).__name__}: {reason_of(error) or 'no message'}): correct it, or choose another model"
        ) from error


def _first(folder: Path, files: Sequence[str]) -> str:
    """The file to name: a single file of weights stands before everything else that is read with it."""
    if files is WEIGHTS:
        return next((file.name for file in weight_files(folder)), WEIGHTS[0])
    return next((name for name in files if (folder / name).is_file()), files[0])


def _require_undamaged(folder: Path, files: Sequence[str]) -> None:
    for name in files:
        if (folder / name).is_file():
            read_object(folder / name)
    for file in weight_files(folder) if files is WEIGHTS else ():
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise ModelUnavailable(f"{file}: is damaged ({reason_of(error)}); {RESTORE}") from error
