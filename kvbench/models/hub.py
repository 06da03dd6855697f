"""A model of the hub as a local folder: downloaded, or from the cache when the hub cannot be reached."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's or httpx2's
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
)

from kvbench.errors import ModelUnavailable
from kvbench.hub_cache import COMMIT, cached_folder
from kvbench.models.hub_errors import no_connection
from kvbench.offline_advice import NO_DOWNLOAD, SHAPE_BY_HAND
from kvbench.weight_files import NO_WEIGHTS, is_complete, weight_files, weight_format

# The hub answers within a fraction of a second; a person who is offline should not wait for its client's retries.
PROBE_S = 3.0
ERRNO = re.compile(r"\[Errno -?\d+\] ")
# Besides the weights: configs, tokenizers and chat templates. Other frameworks' weights stay where they are.
SMALL_FILES = (".json", ".model", ".txt", ".jinja", ".tiktoken")

Answer = TypeVar("Answer")


def hub_folder(id: str, revision: str | None, *, code: bool = False, instead: str = NO_DOWNLOAD) -> Path:
    """The snapshot of a repository with its config, tokenizer and weights; its name is the commit.

    `code` also fetches the repository's Python files; `instead` is the advice where it cannot be reached. A pinned
    commit that is in the cache needs no connection. Raises `ModelUnavailable` when the hub cannot be reached within
    about 3 s and the cache has no whole copy, or when the repository has no weights that are loaded. Other refusals are
    the hub client's own errors (see `hub_errors`).
    """
    cached = cached_folder(id, revision)
    if cached is not None and not is_complete(cached):
        cached = None
    if cached is not None and _is_commit(revision):
        return cached
    try:
        files = _files_on_the_hub(id, revision)
    except _Unreachable as error:
        return _cached_instead(cached, id, error, instead)
    suffixes = (*SMALL_FILES, ".py") if code else SMALL_FILES
    small = [file for file in files if "/" not in file and file.endswith(suffixes)]
    return Path(snapshot_download(id, revision=revision, allow_patterns=[*small, *_weights(id, revision, files)]))


def hub_config_folder(id: str, revision: str | None) -> Path:
    """A folder with the config.json of a repository and no weights. Raises as `hub_folder` does."""
    cached = cached_folder(id, revision)
    if cached is not None and _is_commit(revision):
        return cached
    try:
        _files_on_the_hub(id, revision)
    except _Unreachable as error:
        return _cached_instead(cached, id, error, SHAPE_BY_HAND)
    return Path(hf_hub_download(id, "config.json", revision=revision)).parent


class _Unreachable(Exception):
    """No answer from the hub; the text is the reason."""


def _files_on_the_hub(id: str, revision: str | None) -> list[str]:
    timeout_s = PROBE_S
    if constants.HF_HUB_ETAG_TIMEOUT != constants.DEFAULT_ETAG_TIMEOUT:
        timeout_s = float(constants.HF_HUB_ETAG_TIMEOUT)  # the user knows their connection
    try:
        info = _within(timeout_s, lambda: HfApi().model_info(id, revision=revision, timeout=timeout_s))
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        raise _Unreachable(f"it answers {error.response.status_code}") from error
    except OfflineModeIsEnabled as error:
        raise _Unreachable("HF_HUB_OFFLINE is set") from error
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise _Unreachable(ERRNO.sub("", str(error)) or type(error).__name__) from error
    return [sibling.rfilename for sibling in info.siblings or ()]


def _cached_instead(cached: Path | None, id: str, error: _Unreachable, instead: str) -> Path:
    if cached is None:
        raise ModelUnavailable(no_connection(id, str(error), instead)) from error
    return cached


def _is_commit(revision: str | None) -> bool:
    return revision is not None and COMMIT.fullmatch(revision) is not None


def _weights(id: str, revision: str | None, files: list[str]) -> list[str]:
    """The weight files that transformers will read, named one by one: repositories hold other copies besides."""
    found = weight_format(files)
    if found is None:
        raise ModelUnavailable(NO_WEIGHTS.format(model=id))
    if found.single in files:
        return [found.single]
    index = Path(hf_hub_download(id, found.index, revision=revision))
    return sorted(file.name for file in weight_files(index.parent))


def _within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """The result of `call`, or `TimeoutError`. Looking up a host name has no timeout of its own."""
    results: queue.SimpleQueue[tuple[Answer | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((call(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True, name="hub probe").start()
    try:
        answer, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    assert answer is not None
    return answer
