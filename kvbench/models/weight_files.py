"""The safetensors files of a transformers folder."""

from __future__ import annotations

import json
from pathlib import Path

from kvbench.errors import ModelUnavailable

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, whether they exist or not; empty when the folder has no safetensors weights."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        return []
    index = json.loads((folder / INDEX).read_text())
    return [folder / name for name in sorted(set(index.get("weight_map", {}).values()))]


def is_complete(folder: Path) -> bool:
    """Whether the folder has safetensors weights and every one of their files."""
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
        raise ModelUnavailable(f"{model} has no safetensors weights, and only safetensors weights are loaded")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelUnavailable(
            f"{model} lacks {len(missing)} of {len(files)} weight files, {missing[0]} first: download it again"
        )
