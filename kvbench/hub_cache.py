"""What the local cache of the Hugging Face Hub holds, looked up without torch, transformers or a connection."""

from __future__ import annotations

import os
import re
from pathlib import Path

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
