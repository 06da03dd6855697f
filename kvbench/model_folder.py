"""What lies on this machine of a model: the hub's cache, weight files, and what to do without a download."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable

EMBEDDED = Path(__file__).parent / "models" / "embedded"  # the model that comes with kvbench

# What a person can do who cannot download a model.


NO_DOWNLOAD = "use model.weights=random, which needs no download, or model=path with a local folder"
RANDOM_BY_HAND = (
    "use model=path with a local folder, or model.weights=random with model.architecture={model_type: …}, which needs"
    " no download"
)
SHAPE_BY_HAND = (
    "give the shape by model.architecture={model_type: …}, or name a folder with a config.json by model.path"
)


def instead_of_download(spec: ModelConfig) -> str:
    """What a person who cannot download can do about this model: never what they have done already."""
    if spec.weights == "random":
        return SHAPE_BY_HAND
    return NO_DOWNLOAD if spec.architecture else RANDOM_BY_HAND


# What the local cache of the Hugging Face Hub holds, looked up without torch, transformers or a connection.


COMMIT = re.compile(r"[0-9a-f]{40}")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def cached_folder(id: str, revision: str | None) -> Path | None:
    """The cached snapshot of a repository that has a config.json, or None; its name is the commit."""
    from huggingface_hub import try_to_load_from_cache  # a quarter of a second, which few runs need

    config = try_to_load_from_cache(id, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def commit_of(folder: Path | None) -> str | None:
    """The commit that a snapshot is of; None for other folders."""
    return folder.name if folder is not None and COMMIT.fullmatch(folder.name) else None


def cached_commit(id: str, revision: str | None) -> str | None:
    """The commit of the cached snapshot; None where there is none, or for an id that no repository could have."""
    try:
        return commit_of(cached_folder(id, revision))
    except ValueError:  # the hub client's own refusal of an id
        return None


def is_offline() -> bool:
    """Whether the hub must not be asked."""
    if not any(name in os.environ for name in OFFLINE):
        return False
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cache_location() -> Path:
    """Where the snapshots are."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


# The weight files of a transformers folder: safetensors, or where there are none, PyTorch's own of tensors alone.


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
    """The format of the weights in a folder; None where there are none, or no folder."""
    return weight_format({file.name for file in folder.iterdir()}) if folder.is_dir() else None


def is_complete(folder: Path) -> bool:
    """Whether the folder has weights and every one of their files."""
    files = weight_files(folder)
    return bool(files) and all(file.is_file() for file in files)


def local_folder(path: str) -> Path:
    """The folder that `model.path` names, with its `~`. Raises `ModelUnavailable` where nobody has such a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # no such account; or no HOME, and a user without one
        raise ModelUnavailable(f"model.path={path}: ~ stands for no folder here; write the whole path") from error


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
