"""Runs as a data set of the Hugging Face Hub: run folders without texts, and a table of arms beside them.

    README.md                what is in it, and which files the hub's viewer shows
    arms/NAME.parquet        one row per arm of the run, with the columns of export
    runs/NAME/run.json       the record; blocks.jsonl and steps.parquet beside it

Each run has files of its own, so that a later push adds to it, and the same run pushed twice is there once.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import kvbench
from kvbench.errors import ConfigError, KvbenchError, reason_of
from kvbench.records.store import Hearer, StoredRun, nobody, replace_file
from kvbench.report.exports.columns import COLUMNS
from kvbench.report.exports.formats import arrow_table, parquet_bytes
from kvbench.report.exports.rows import flat_rows
from kvbench.report.exports.shared import write_shared
from kvbench.report.redaction import HOST, PLACE, SECRET, USER, redacted_text

CARD = "README.md"
KIND = "dataset"
DATASET = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


@dataclass
class Staged:
    """Files ready to be sent, below a folder of this machine; and how often each stand-in took something's place."""

    folder: Path
    runs: int = 0
    replaced: Counter[str] = field(default_factory=Counter)

    def files(self) -> Iterator[tuple[str, int]]:
        """Every file with its size in bytes."""
        for file in sorted(self.folder.rglob("*")):
            if file.is_file():
                yield file.relative_to(self.folder).as_posix(), file.stat().st_size


def require_dataset(name: str) -> None:
    """Raise `ConfigError` for what is no id of a data set."""
    if not DATASET.fullmatch(name) or ".." in name or "--" in name:
        raise ConfigError(f"{name}: not the id of a data set; write it as ORG/NAME")


def stage(runs: Iterable[StoredRun], folder: Path, tell: Hearer = nobody) -> Staged:
    """Write what would be sent into a folder, one run at a time. Raises `RecordError` when it cannot be written."""
    staged = Staged(folder)
    taken: set[str] = set()
    for run in runs:
        digest = hashlib.sha256(run.record.model_dump_json().encode()).hexdigest()[:16]
        if digest in taken:
            continue  # a copy
        name = run.record.run_id if _is_free(run.record.run_id, taken) else digest
        taken |= {digest, name}
        shared = write_shared(run, folder / "runs" / name, tell)
        (folder / "arms").mkdir(exist_ok=True)
        table = arrow_table(flat_rows([shared]), COLUMNS)
        replace_file(folder / "arms" / f"{name}.parquet", parquet_bytes(table))
        staged.runs += 1
        before, after = run.record.model_dump_json(), shared.record.model_dump_json()
        for stand_in in (HOST, USER, PLACE, SECRET):
            staged.replaced[stand_in] += max(0, after.count(stand_in) - before.count(stand_in))
    replace_file(folder / CARD, _card())
    return staged


def _is_free(run_id: str, taken: set[str]) -> bool:
    """Whether a run's id is the name of a file, not another run's, and tells nothing of this machine."""
    return FILE_NAME.fullmatch(run_id) is not None and run_id not in taken and redacted_text(run_id) == run_id


def _card() -> bytes:
    text = (files("kvbench.report.exports") / "dataset_card.md").read_text(encoding="utf-8")
    return text.replace("VERSION", kvbench.__version__).encode()


def push(staged: Staged, dataset: str, *, public: bool) -> str:
    """Send the files; returns the data set's address. It is made where there is none, private unless `public`.

    Raises `ConfigError` for a data set that is public already where that was not asked for, and `KvbenchError` when the
    hub does not take the files.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="kvbench", library_version=kvbench.__version__)
    with _explained(dataset):
        address = api.create_repo(dataset, repo_type=KIND, private=not public, exist_ok=True)
        if not public and api.repo_info(dataset, repo_type=KIND).private is not True:
            raise ConfigError(f"{dataset}: is public; add --public to send it there, or name another")
        has_card = api.file_exists(dataset, CARD, repo_type=KIND)
        api.upload_folder(
            repo_id=dataset,
            repo_type=KIND,
            folder_path=staged.folder,
            commit_message=f"{staged.runs} run{'' if staged.runs == 1 else 's'} of kvbench {kvbench.__version__}",
            ignore_patterns=[CARD] if has_card else None,  # somebody may have written more into it
        )
    return str(address)


@contextmanager
def _explained(dataset: str) -> Iterator[None]:
    """What the hub's client raises, as one sentence that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except KvbenchError:
        raise
    except LocalTokenNotFoundError as error:
        raise ConfigError(f"push {dataset}: there is no token: {LOG_IN}") from error
    except OfflineModeIsEnabled as error:
        raise ConfigError(f"push {dataset}: HF_HUB_OFFLINE is set: unset it to send") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise KvbenchError(f"push {dataset}: the hub does not let you write there ({status}): {LOG_IN}") from error
        raise KvbenchError(
            f"push {dataset}: the hub refused it ({status}): {redacted_text(reason_of(error))}"
        ) from error
    except Exception as error:  # of a connection: its classes are httpx's or httpx2's, by version
        reason = redacted_text(reason_of(error)) or type(error).__name__
        raise KvbenchError(
            f"push {dataset}: the hub was not reached, or its answer not understood ({reason})"
        ) from error
