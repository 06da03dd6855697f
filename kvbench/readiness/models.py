"""A model's folder, looked at before anything is loaded from it."""

from __future__ import annotations

from pathlib import Path

import kvbench
from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable
from kvbench.hub_cache import cache_location, cached_folder, is_offline
from kvbench.offline_advice import instead_of_download
from kvbench.weight_files import is_complete, require_complete

EMBEDDED = Path(kvbench.__file__).parent / "models" / "embedded"


def found_folder(model: ModelConfig) -> Path | None:
    """The folder that the model will be read from, where that is certain by now.

    Raises `ModelUnavailable` when it does not exist or is no transformers folder, and when the hub must not be asked
    and the cache lacks the model.
    """
    match model.weights:
        case "embedded":
            return EMBEDDED
        case "path":
            folder = Path(str(model.path)).expanduser()
            require_complete(folder, str(model.path))
            return folder
        case "random" if model.path is not None and not model.architecture:
            folder = Path(model.path).expanduser()
            if not folder.is_dir():
                raise ModelUnavailable(f"model.path={model.path}: no such folder")
            if not (folder / "config.json").is_file():
                raise ModelUnavailable(f"{model.path} has no config.json: it is not a transformers folder")
            return folder
        case "hub":
            return _offline_folder(model, with_weights=True)
        case "random" if model.id is not None and not model.architecture:
            return _offline_folder(model, with_weights=False)
        case _:
            return None


def _offline_folder(model: ModelConfig, *, with_weights: bool) -> Path | None:
    """The cached snapshot where only the cache may be used; None where the hub has the say."""
    if not is_offline():
        return None
    try:
        folder = cached_folder(str(model.id), model.revision)
    except ValueError:  # no id of a repository: the hub client has the sentence
        return None
    if folder is not None and (not with_weights or is_complete(folder)):
        return folder
    missing = "the config.json of " if not with_weights else "" if folder is None else "part of the weights of "
    of_revision = f" at revision {model.revision}" if model.revision else ""
    raise ModelUnavailable(
        f"HF_HUB_OFFLINE is set, and {missing}{model.id}{of_revision} is not in the local cache ({cache_location()}):"
        f" unset it to download, set HF_HOME to where the model is, or {instead_of_download(model)}"
    )
