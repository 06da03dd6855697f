"""What a model's configuration names: a transformers config, and the folder of its weights if it has any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable
from kvbench.model_folder import (
    EMBEDDED,
    Adapter,
    adapter_in,
    commit_of,
    instead_of_download,
    local_folder,
    read_object,
    require_complete,
    require_sizes,
    weight_files,
)
from kvbench.models.folder_faults import CONFIG, blamed_on
from kvbench.models.hub import explained, hub_config_folder, hub_folder
from kvbench.models.sizing import WeightSize, predicted_weight_size

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Checkpoint:
    """A transformers config, and its folder; `folder` is None for random weights.

    With an `adapter`, which may lie in the same folder, they are those of its base, and `revision` is the adapter's.
    """

    config: Any
    folder: Path | None
    revision: str | None  # the commit of the hub, when one is known
    adapter: Adapter | None = None

    def dtype(self, wanted: str, device: torch.device) -> torch.dtype:
        """The type that the weights will have: as asked for, or for "auto" what the config states.

        A config that states none: random weights take bfloat16 on a CUDA device and float32 elsewhere, stored
        weights are taken for float32 until they have been read.
        """
        if wanted != "auto":
            return DTYPES[wanted]
        stated: torch.dtype | None = self.config.dtype or self.config.get_text_config().dtype
        if stated is not None:
            return stated
        return torch.bfloat16 if self.folder is None and device.type == "cuda" else torch.float32

    def predicted_size(
        self, dtype: torch.dtype, *, bits: int | None = None, trust_remote_code: bool
    ) -> WeightSize | None:
        """The weights' size before they are loaded, or None when only the files can tell (see `stored_bytes`)."""
        if self.folder is not None and (trust_remote_code or getattr(self.config, "quantization_config", None)):
            return None
        return predicted_weight_size(self.config, dtype, bits=bits, trust_remote_code=trust_remote_code)

    def stored_bytes(self) -> int:
        """Bytes of the weight files, 0 for random weights."""
        return sum(file.stat().st_size for file in weight_files(self.folder)) if self.folder else 0


def open_checkpoint(spec: ModelConfig) -> Checkpoint:
    """Find what `spec` names, downloading it if need be; loads no weights.

    Raises `ModelUnavailable` for what is missing, and the libraries' own errors (see `hub.explained`).
    """
    match spec.weights:
        case "random":
            return _random(spec)
        case "embedded":
            folder = EMBEDDED
        case "path":
            folder = local_folder(str(spec.path))
        case _:
            instead = instead_of_download(spec)
            folder = hub_folder(str(spec.id), spec.revision, code=spec.trust_remote_code, instead=instead)
    require_complete(folder, label(spec))
    adapter = adapter_in(folder)
    base = folder if adapter is None or adapter.beside_base else _base(adapter, spec)
    commit = commit_of(folder) if spec.weights == "hub" else None
    return Checkpoint(_read_config(base, spec), base, commit, adapter)


def _base(adapter: Adapter, spec: ModelConfig) -> Path:
    """The folder of the base of an adapter that lies alone, downloaded if need be."""
    if adapter.local_base is not None:
        return adapter.local_base
    base, instead = str(adapter.base), instead_of_download(spec)
    with explained(base, adapter.revision, instead):
        folder = hub_folder(base, adapter.revision, code=spec.trust_remote_code, instead=instead)
    require_complete(folder, base)
    return folder


def label(spec: ModelConfig) -> str:
    """How messages name the model: its hub id, its folder, or its name."""
    match spec.weights:
        case "hub":
            return str(spec.id)
        case "path":
            return str(spec.path)
        case "random" if not spec.architecture:
            return str(spec.path or spec.id)
        case _:
            return spec.id or spec.name


def _random(spec: ModelConfig) -> Checkpoint:
    if spec.architecture:
        shape = dict(spec.architecture)
        model_type = shape.pop("model_type", None)
        if model_type is None:
            raise ModelUnavailable(f"model.architecture of {spec.name} has no model_type: name one, such as llama")
        where = f"model.architecture of {spec.name}"
        require_sizes(shape, where)
        with blamed_on(None, (), where):
            return Checkpoint(AutoConfig.for_model(str(model_type), **shape), None, None)
    if spec.path is not None:
        folder = local_folder(spec.path)
        if not (folder / "config.json").is_file():
            raise ModelUnavailable(f"{spec.path} has no config.json: it is not a transformers folder")
        return Checkpoint(_read_config(folder, spec), None, None)
    folder = hub_config_folder(str(spec.id), spec.revision)
    return Checkpoint(_read_config(folder, spec), None, commit_of(folder))


def _read_config(folder: Path, spec: ModelConfig) -> Any:
    require_sizes(read_object(folder / "config.json"), f"config.json of {label(spec)}")
    with blamed_on(folder, CONFIG, label(spec)):
        return AutoConfig.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
