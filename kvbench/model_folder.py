"""What lies on this machine of a model: the hub's cache, weight files, and what to do without a download."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from kvbench.cache_layers import ATTENTION_HEADS, HIDDEN_SIZE, KV_HEADS, LAYERS
from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable
from kvbench.model_facts import EXPERTS, INTERMEDIATE_SIZE, MAX_CONTEXT
from kvbench.text import printable

EMBEDDED = Path(__file__).parent / "models" / "embedded"  # the model that comes with kvbench

LOADED = "(loaded)"  # stands as the folder of a model that was handed to `kvbench.measure` as an object

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


CONFIG = "config.json"
ADAPTER = "adapter_config.json"


def cached_folder(id: str, revision: str | None) -> Path | None:
    """The cached snapshot of a repository that has the config of a model or an adapter, or None.

    Its name is the commit.
    """
    from huggingface_hub import try_to_load_from_cache  # a quarter of a second, which few runs need

    found = (try_to_load_from_cache(id, name, revision=revision) for name in (CONFIG, ADAPTER))
    return next((Path(config).parent for config in found if isinstance(config, str)), None)


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


# The JSON files of a transformers folder, read so far as to say which one is damaged, and how.


RESTORE = "restore the file or download it again"
SHOWN = 100  # characters of what a file says, within a sentence


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `ModelUnavailable` with the file and what is wrong with it."""
    try:
        value: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelUnavailable(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ModelUnavailable(f"{file}: is damaged, it is not UTF-8 text; {RESTORE}") from error
    except json.JSONDecodeError as error:
        raise ModelUnavailable(
            f"{file}: is damaged, it is not JSON (line {error.lineno}: {error.msg}); {RESTORE}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelUnavailable(f"{file}: is damaged, with numbers or nesting beyond reason; {RESTORE}") from error
    if not isinstance(value, dict):
        raise ModelUnavailable(f"{file}: is damaged, it holds no JSON object but {str(value)[:SHOWN]}; {RESTORE}")
    return value


# What is counted out one by one as a model is built, and far more than any model has of it.
MOST = {
    **dict.fromkeys((*LAYERS, "encoder_layers", "decoder_layers"), 10_000),
    **dict.fromkeys(EXPERTS, 100_000),
    "num_labels": 1_000_000,
}
NEEDED = (*LAYERS, *HIDDEN_SIZE, "vocab_size")  # a model with none of them is no model
WHOLE = {*NEEDED, *MOST, *ATTENTION_HEADS, *KV_HEADS, *INTERMEDIATE_SIZE, "head_dim", "sliding_window"}
LARGEST = 2**63 - 1  # that torch takes


def require_sizes(config: Mapping[str, Any], where: str) -> None:
    """Raise `ModelUnavailable` for sizes that no model has, before something is built that never ends.

    `where` names what states them. What is nested, as a text part, is looked at too.
    """
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    for part in parts:
        for name, value in part.items():
            if not isinstance(value, (int, float)):
                continue
            is_whole = isinstance(value, int) or name not in WHOLE
            if name in (*WHOLE, *MAX_CONTEXT) and not (is_whole and abs(value) <= LARGEST):  # nor is NaN
                raise ModelUnavailable(f"{where}: {name}={str(value)[:SHOWN]} is no whole number that torch takes")
            if name in MOST and value > MOST[name]:
                raise ModelUnavailable(f"{where}: {name}={str(value)[:SHOWN]} is beyond what any model has; correct it")
            if name in NEEDED and value < 1 and part is config:
                raise ModelUnavailable(f"{where}: {name}={str(value)[:SHOWN]} leaves no model; correct it")


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
    """The files that hold the weights, whether they exist or not; empty when the folder has none that are loaded.

    Raises `ModelUnavailable` for an index that lists no files of the folder.
    """
    found = folder_format(folder)
    if found is None:
        return []
    if os.path.lexists(folder / found.single) and not (folder / found.index).is_file():
        return [folder / found.single]
    if (folder / found.single).is_file():
        return [folder / found.single]
    index = folder / found.index
    files = read_object(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise ModelUnavailable(f"{index}: its weight_map names no file for each tensor; {RESTORE}")
    outside = next((name for name in files.values() if PurePath(name).name != name), None)
    if outside is not None:
        raise ModelUnavailable(f"{index}: names the file {outside[:SHOWN]!r}, which is not in this folder; {RESTORE}")
    return [folder / name for name in sorted(set(files.values()))]


def folder_format(folder: Path) -> Format | None:
    """The format of the weights in a folder; None where there are none, or no folder."""
    return weight_format({file.name for file in folder.iterdir()}) if folder.is_dir() else None


def is_complete(folder: Path) -> bool:
    """Whether the folder has weights and every one of their files; an adapter's where it has one."""
    if (folder / ADAPTER).is_file() and (adapter_weights(folder) is None or not (folder / CONFIG).is_file()):
        return adapter_weights(folder) is not None
    try:
        files = weight_files(folder)
    except ModelUnavailable:  # a damaged index
        return False
    return bool(files) and all(file.is_file() for file in files)


def local_folder(path: str) -> Path:
    """The folder that `model.path` names, with its `~`. Raises `ModelUnavailable` where nobody has such a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # no such account; or no HOME, and a user without one
        raise ModelUnavailable(f"model.path={path}: ~ stands for no folder here; write the whole path") from error


def require_complete(folder: Path, model: str) -> None:
    """Raise `ModelUnavailable`, naming `model`, unless a config and every weight file are there.

    Of an adapter alone the base has them, which is looked at where it is a folder. An adapter wants the package peft:
    without it transformers would leave the adapter out without a word.
    """
    if model == LOADED:
        raise ModelUnavailable(
            "this run's model was handed to kvbench.measure in Python, and no configuration can load it: call it there"
            " again, or name the model's folder by model.path"
        )
    if not folder.is_dir():
        raise ModelUnavailable(f"model.path={model}: no such folder")
    adapter = adapter_in(folder)
    if adapter is not None:
        _require_adapter(adapter, model)
        if not adapter.beside_base:
            if adapter.local_base is not None and adapter.local_base.resolve() != folder.resolve():
                require_complete(adapter.local_base, f"the base of {model}, {adapter.base},")
            return
    if not (folder / "config.json").is_file():
        raise ModelUnavailable(f"{model} has no config.json: it is not a transformers folder")
    files = weight_files(folder)
    if not files:
        raise ModelUnavailable(NO_WEIGHTS.format(model=model))
    odd = next((file.name for file in files if os.path.lexists(file) and not file.is_file()), None)
    if odd is not None:
        raise ModelUnavailable(f"{odd} of {model} is no file, but a folder, a pipe or a link to nothing: {RESTORE}")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelUnavailable(
            f"{model} lacks {len(missing)} of {len(files)} weight files, {missing[0]} first: download it again"
        )


# Adapters of PEFT: a few weights, and the name of the model that they belong to.


ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, and the base that it states: a folder or an id of the hub, with its revision."""

    folder: Path
    base: str | None
    revision: str | None

    @property
    def beside_base(self) -> bool:
        """Whether the folder holds the base too."""
        return (self.folder / CONFIG).is_file()

    @property
    def local_base(self) -> Path | None:
        """The folder of the base; None where it is none of this machine."""
        if self.base is None:
            return None
        folder = Path(os.path.expanduser(self.base))  # noqa: PTH111 - a home that nobody has stays as it is
        return folder if folder.is_dir() else None


def adapter_in(folder: Path) -> Adapter | None:
    """The adapter that a folder holds. Raises `ModelUnavailable` where its file is damaged."""
    if not (folder / ADAPTER).is_file():
        return None
    stated = read_object(folder / ADAPTER)
    base, revision = (stated.get(name) for name in ("base_model_name_or_path", "revision"))
    return Adapter(
        folder,
        base if isinstance(base, str) and base else None,
        revision if isinstance(revision, str) and revision else None,
    )


def adapter_weights(folder: Path) -> Path | None:
    """The file of an adapter's weights; None where it is missing."""
    return next((folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), None)


def is_no_id(name: str) -> bool:
    """Whether a text can be no hub id, which is NAME or ORGANISATION/NAME, so that it must be a path."""
    return name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name


def _require_adapter(adapter: Adapter, model: str) -> None:
    """Raise `ModelUnavailable` for an adapter that cannot be put on its base, as far as its folder tells."""
    base = printable(adapter.base or "a base that it does not name")
    if importlib.util.find_spec("peft") is None:
        if adapter.beside_base:
            raise ModelUnavailable(
                f"{model} holds an adapter beside its base ({ADAPTER}), which is not applied without the package peft:"
                f" pip install peft, or remove {ADAPTER} to measure the base"
            )
        raise ModelUnavailable(
            f"{model} is an adapter of {base} ({ADAPTER}), which is not applied without the package peft: pip install"
            " peft, or measure the base"
        )
    if adapter_weights(adapter.folder) is None:
        raise ModelUnavailable(f"{model} has no adapter to apply: it lacks {ADAPTER_WEIGHTS[0]}; {RESTORE}")
    if adapter.beside_base or adapter.local_base is not None:
        return
    if adapter.base is None:
        raise ModelUnavailable(
            f"{model} is an adapter that does not name its base: write it as base_model_name_or_path into {ADAPTER}"
        )
    if is_no_id(adapter.base):
        raise ModelUnavailable(
            f"{model} is an adapter of {base}, and there is no such folder here: correct base_model_name_or_path of"
            f" its {ADAPTER}"
        )
