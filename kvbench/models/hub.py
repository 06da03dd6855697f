"""A model of the hub as a local folder, and every way in which getting it can fail as one sentence."""

from __future__ import annotations

import contextlib
import errno
import json
import queue
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's or httpx2's
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError

from kvbench.errors import KvbenchError, ModelUnavailable
from kvbench.installation import install_hint
from kvbench.model_folder import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    COMMIT,
    CONFIG,
    NO_DOWNLOAD,
    NO_WEIGHTS,
    SHAPE_BY_HAND,
    cached_folder,
    is_complete,
    weight_files,
    weight_format,
)

# What the hub, transformers and safetensors raise, as one `ModelUnavailable` sentence each that says what to do.


Matcher = Callable[[BaseException], bool]
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def no_connection(model: str, reason: str, instead: str) -> str:
    """The sentence for a hub that cannot be reached and a model that is not on this machine; `instead` is the advice.

    Of random weights the config alone is missing.
    """
    missing = model
    connect = "connect"
    if instead == SHAPE_BY_HAND:
        missing, connect = f"the config.json of {model}, which random weights are made from,", "connect once"
    return f"no connection to the hub ({reason}) and {missing} is not in the local cache: {connect}, or {instead}"


@contextlib.contextmanager
def explained(model: str, revision: str | None = None, instead: str = NO_DOWNLOAD) -> Iterator[None]:
    """Turn what is known of the libraries' errors into `ModelUnavailable`; let the rest pass as it is.

    `model` is the hub id or the folder that the sentence names, `instead` what to do without the hub.
    """
    try:
        yield
    except KvbenchError:
        raise
    except Exception as error:
        sentence = explanation(error, model, revision, instead)
        if sentence is None:
            raise
        raise ModelUnavailable(sentence) from error


def explanation(
    error: BaseException, model: str, revision: str | None = None, instead: str = NO_DOWNLOAD
) -> str | None:
    """The sentence for an error or for what caused it, or None when neither is known."""
    for link in _chain(error):
        for matches, sentence in RULES:
            if matches(link):
                if sentence in UNREACHABLE:
                    return no_connection(model, UNREACHABLE[sentence], instead)
                detail = _first_line(link)
                return sentence.format(
                    model=model,
                    revision=revision or "main",
                    detail=detail,
                    instead=instead,
                    install=install_hint("sentencepiece"),
                )
    return None


def _is(kind: type[BaseException], *fragments: str) -> Matcher:
    """An exception of this class whose text holds one of the fragments, if any are given."""
    return lambda error: (
        isinstance(error, kind) and (not fragments or any(fragment in str(error) for fragment in fragments))
    )


def _answered(status: int) -> Matcher:
    return lambda error: isinstance(error, HfHubHTTPError) and error.response.status_code == status


def _disk_is_full(error: BaseException) -> bool:
    # The hub's transfer library is not written in Python and has no errno.
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error)


# Why the hub gave no answer, for `no_connection`, by the word that stands for it in the rules.
UNREACHABLE = {"offline": "HF_HUB_OFFLINE is set", "incomplete": "a file is missing"}

# The first rule that matches speaks; subclasses stand before their parents.
RULES: tuple[tuple[Matcher, str], ...] = (
    (
        _is(GatedRepoError),
        "{model} is gated: accept its licence at https://huggingface.co/{model} and " + LOG_IN,
    ),
    (_is(DisabledRepoError), "{model} has been disabled by the hub: choose another model.id"),
    (
        _is(RevisionNotFoundError),
        "model.revision={revision}: {model} has no such commit, tag or branch; its branches are listed at"
        " https://huggingface.co/{model}/tree/main",
    ),
    (
        _is(RepositoryNotFoundError),
        "the hub has no model {model} that you may see: check model.id; if it is private, " + LOG_IN,
    ),
    (_is(LocalTokenNotFoundError), "{model} needs a token and there is none: " + LOG_IN),
    (
        _answered(401),
        "the hub rejects the token that was sent for {model}: renew it with `hf auth login` or unset HF_TOKEN",
    ),
    (_answered(403), "your token may not read {model}: give it read access to gated repositories, or " + LOG_IN),
    (_answered(429), "the hub limits your rate of requests: try again later, or " + LOG_IN + " for a higher limit"),
    (_is(OfflineModeIsEnabled), "offline"),
    (_is(LocalEntryNotFoundError), "incomplete"),
    (_is(EntryNotFoundError), "{model} lacks a file that a transformers model has: {detail}"),
    (_is(HfHubHTTPError), "the hub failed on {model}: {detail}; try again later, or {instead}"),
    (_is(HTTPError), "the connection to the hub broke while loading {model}: {detail}; run again to resume"),
    (_is(HFValidationError), "model.id={model}: not a hub id; write it as ORG/NAME"),
    (
        _disk_is_full,
        "the disk is full while downloading {model}: free some space, or set HF_HOME to a folder on another disk",
    ),
    (_is(PermissionError), "{model} cannot be read or stored: {detail}; check the folder's permissions or set HF_HOME"),
    (
        _is(ValueError, "contains custom code", "requires you to execute"),
        "{model} brings Python code of its own, which is not run: model.trust_remote_code=true allows it, only if you"
        " trust that code",
    ),
    (
        _is(ValueError, "Should have a `model_type` key"),
        "config.json of {model} names no model_type: it is not the config of a transformers model",
    ),
    (
        _is(ValueError, "does not recognize this architecture", "Unrecognized model identifier"),
        "{model} has an architecture that the installed transformers does not know: update transformers, or, if the"
        " repository brings its own code and you trust it, set model.trust_remote_code=true",
    ),
    (
        _is(ValueError, "Unrecognized configuration class"),
        "{model} is not a causal language model: choose one that generates text from left to right",
    ),
    (
        _is(ImportError),
        "{model} needs a package that is not installed: {detail}",
    ),
    (
        _is(ValueError, "is required to read", "sentencepiece or tiktoken"),
        "the tokenizer of {model} cannot be read: it has no tokenizer.json, and its sentencepiece file needs two"
        " packages: {install}",
    ),
    (_is(StrictDataclassError), "the config of {model} has a value that transformers refuses: {detail}"),
    (
        _is(AttributeError, "module 'torch' has no attribute"),
        "the config of {model} states a dtype that torch does not have: {detail}",
    ),
    (
        _is(OSError, "is not a valid JSON file"),
        "config.json of {model} is damaged: restore it or download it again",
    ),
    (_is(json.JSONDecodeError), "a JSON file of {model} is damaged ({detail}): restore it or download it again"),
    (_is(SafetensorError), "a safetensors file of {model} is damaged ({detail}): restore it or download it again"),
    (
        _is(UnpicklingError),
        "a weight file of {model} is damaged, or holds more than tensors and is not loaded: restore it, or download"
        " it again",
    ),
    (
        _is(RuntimeError, "ignore_mismatched_sizes"),
        "the weights of {model} do not have the shapes that its config.json states: one of the two is wrong",
    ),
    (_is(OSError, "does not appear to have"), "{model} is incomplete: {detail}"),
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _first_line(error: BaseException) -> str:
    """The first line, or for a validation error the line that names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, StrictDataclassError):
        return " ".join(lines)
    return lines[0].rstrip(".") if lines else type(error).__name__


# A model of the hub as a local folder: downloaded, or from the cache when the hub cannot be reached.


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
    the hub client's own errors (see `explained`).
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
    wanted = [file for file in files if "/" not in file and (file.endswith(suffixes) or file in ADAPTER_WEIGHTS)]
    if not (ADAPTER in files and CONFIG not in files):  # an adapter alone has its base's weights elsewhere
        wanted += _weights(id, revision, files)
    return Path(snapshot_download(id, revision=revision, allow_patterns=wanted))


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
