"""The weight files of a transformers folder: safetensors, or where there are none, PyTorch's own of tensors alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kvbench.errors import ModelUnavailable


@dataclass(frozen=True)
class Format:
    """Names of the one file, or of the index that lists several."""

    single: str
    index: str


SAFETENSORS = Format("model.safetensors", "model.safetensors.index.json")
# Pickled, but read with `weights_only`: nothing in them is run. Older checkpoints often have no others.
PYTORCH = Format("pytorch_model.bin", "pytorch_model.bin.index.json")
NO_WEIGHTS = "{model} has no weights to load: neither model.safetensors nor pytorch_model.bin, nor an index of them"


def weight_format(names: Collection[str]) -> Format | None:
    """The format that is read where files of these names are: safetensors first; None when there is neither."""
    return next((each for each in (SAFETENSORS, PYTORCH) if each.single in names or each.index in names), None)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, whether they exist or not; empty when the folder has none that are loaded."""
    found = folder_format(folder)
    if found is None:
        return []
    if (folder / found.single).is_file():
        return [folder / found.single]
    index = json.loads((folder / found.index).read_text())
    return [folder / name for name in sorted(set(index.get("weight_map", {}).values()))]


def folder_format(folder: Path) -> Format | None:
    """See `weight_format`."""
    return weight_format({file.name for file in folder.iterdir()}) if folder.is_dir() else None


def is_complete(folder: Path) -> bool:
    """Whether the folder has weights and every one of their files."""
    files = weight_files(folder)
    return bool(files) and all(file.is_file() for file in files)


def require_complete(folder: Path, model: str) -> None:
    """Raise `ModelUnavailable`, naming `model`, unless a config and every weight file are there."""
    if not folder.is_dir():
        raise ModelUnavailable(f"model.path={model}: no such folder")
    if not (folder / "config.json").is_file():
        raise ModelUnavailable(f"{model} has no config.json: it is not a transformers folder")
    files = weight_files(folder)
    if not files:
        raise ModelUnavailable(NO_WEIGHTS.format(model=model))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelUnavailable(
            f"{model} lacks {len(missing)} of {len(files)} weight files, {missing[0]} first: download it again"
        )
