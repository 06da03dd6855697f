"""Run folders on disk: written so that a crash loses nothing finished, read so that one bad file harms no other."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import ValidationError

from kvbench.errors import RecordError
from kvbench.records.run_record import SCHEMA_VERSION, RunRecord
from kvbench.records.timings import Block

if TYPE_CHECKING:
    import pyarrow

RECORD = "run.json"
BLOCKS = "blocks.jsonl"
PROMPTS = "prompts.jsonl"
CONFIG = "config.yaml"
STEPS = "steps.parquet"
REPORT = "report.html"
LOG = "stdout.log"
TEMPORARY = ".tmp"  # ends the name, and a dot begins it, of a file that is being written
TEMPORARIES = {f".{name}{TEMPORARY}" for name in (RECORD, STEPS, REPORT)}

# Lines of run.json as it is written: JSON escapes line breaks, so no text inside a record can look like them.
STATUS_LINE = re.compile(r'^ "status": "(\w+)"', re.MULTILINE)
AUDIT_LINE = re.compile(r'^ "sweep_audit": \{', re.MULTILINE)
RESUME_LINE = re.compile(r'^  "resume_key": "(\w+)"', re.MULTILINE)


@dataclass(frozen=True)
class StoredRun:
    """A record together with the folder it was read from."""

    record: RunRecord
    folder: Path


@dataclass(frozen=True)
class Unreadable:
    """A path that should hold a run and cannot be used, with the reason in one line."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Found:
    """What a search for runs brought: usable ones, broken ones, and runs that were killed before their record."""

    runs: tuple[StoredRun, ...]
    unreadable: tuple[Unreadable, ...]
    unfinished: tuple[Unreadable, ...]


class RunFolder:
    """The folder of one run while it is being written.

    Raises `RecordError` when the folder cannot be created or written.
    """

    def __init__(self, results_dir: Path, name: str, run_id: str) -> None:
        self.path = results_dir / name / run_id
        self._made = [self.path, *(parent for parent in self.path.parents if not parent.exists())]
        try:
            self.path.mkdir(parents=True)
        except FileExistsError as error:
            raise RecordError(
                f"run folder {self.path} exists already: remove it or choose another results_dir"
            ) from error
        except OSError as error:
            raise _cannot_create(results_dir, self.path, error) from error

    def discard(self) -> None:
        """Remove the folder of a run that turned out not to be one, and those above it that were made for it."""
        for file in self.path.iterdir():
            file.unlink()
        for folder in self._made:
            if any(folder.iterdir()):  # another run has moved in
                break
            folder.rmdir()

    def write_config(self, text: str) -> None:
        """Keep the resolved configuration as YAML."""
        self._write_new(CONFIG, text.encode())

    def write_prompts(self, prompts: Iterable[dict[str, Any]]) -> None:
        """Keep the prompts: one JSON object with `text` and `token_ids` a line."""
        lines = [json.dumps(prompt, ensure_ascii=False) for prompt in prompts]
        self._write_new(PROMPTS, ("\n".join(lines) + "\n").encode())

    def append_block(self, block: Block) -> None:
        """Append one finished block and make sure that it is on the disk; a part of one is taken back."""
        line = json.dumps(block, default=vars, allow_nan=False) + "\n"  # vars: every part is a plain dataclass
        try:
            with (self.path / BLOCKS).open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    _write_whole(file, line.encode())
                    os.fsync(file.fileno())
                except OSError:
                    with suppress(OSError):
                        file.truncate(end)
                    raise
            if end == 0:
                _sync_folder(self.path)  # else the file itself, and those written before it, may not be found again
        except OSError as error:
            raise RecordError(f"{self.path / BLOCKS}: cannot write ({error.strerror})") from error

    def write_record(self, record: RunRecord) -> None:
        """Write run.json in one step: it is either the whole record or absent."""
        replace_file(self.path / RECORD, record.model_dump_json(indent=1).encode())

    def write_steps(self, table: pyarrow.Table) -> None:
        """Write the per-step table in one step."""
        import pyarrow.parquet

        with _replacing(self.path / STEPS) as file:
            pyarrow.parquet.write_table(table, file)

    def _write_new(self, name: str, content: bytes) -> None:
        """For files that nobody reads before there is a block or a record."""
        try:
            with (self.path / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RecordError(f"{self.path / name}: cannot write ({error.strerror})") from error


def _write_whole(file: RawIOBase, content: bytes) -> None:
    """Write all of it: on a disk that is nearly full the system takes a part, and says so by the number alone."""
    left = memoryview(content)
    while left:
        written = file.write(left)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises `RecordError` when the file cannot be written.
    """
    with _replacing(path) as file:
        file.write(content)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of `path` once all of it is on the disk; else nothing of it stays."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            _lock(file.fileno())  # as long as it is written, for `remove_temporary_files` of another process
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        _sync_folder(path.parent)  # the rename itself is durable only then
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RecordError(f"{path}: cannot write ({error.strerror or error})") from error
        raise


def remove_temporary_files(results_dir: Path) -> None:
    """Remove what writers that were killed have left half written below a folder; files that are written now stay."""
    for folder, _, names in os.walk(results_dir):
        for name in names:
            if name in TEMPORARIES:
                with suppress(OSError):
                    _remove_if_left(Path(folder, name))


def _remove_if_left(temporary: Path) -> None:
    with temporary.open("rb") as file:
        if _lock(file.fileno()) is True:
            temporary.unlink()


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_record(path: Path) -> RunRecord:
    """Read one run.json. Raises `RecordError` with a one-line reason."""
    with suppress(ValidationError, OSError):
        record = RunRecord.model_validate_json(path.read_bytes())
        if "schema_version" in record.model_fields_set:
            return record
    return _read_slowly(path)


def _read_slowly(path: Path) -> RunRecord:
    """The same in steps, four times as slow, with words for what is wrong."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: cannot read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not UTF-8 text, so not a record") from error
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: not complete JSON (line {error.lineno}): truncated or edited") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a record: numbers or nesting beyond reason") from error
    if not isinstance(data, dict) or "schema_version" not in data:
        raise RecordError(f"{path}: not a kvbench record (no schema_version)")
    if data["schema_version"] != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema_version {data['schema_version']} is unknown to this kvbench, which reads {SCHEMA_VERSION}"
        )
    try:
        # Validated from JSON, where lists stand for tuples.
        return RunRecord.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: field {where}: {first['msg']}") from error


def finished_runs(results_dir: Path) -> dict[str, Path]:
    """The newest run of each `resume_key` below a folder that came to its end, VALID or not: key to run folder.

    Raises `RecordError` for a record that the disk does not give: its point might be measured twice.
    """
    finished: dict[str, Path] = {}
    for path in sorted(results_dir.rglob(RECORD), key=lambda path: path.parent.name):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise RecordError(
                f"{path}: cannot read ({error.strerror}), so it is not known whether its point is finished;"
                " resume=false measures every point again"
            ) from error
        status, key = STATUS_LINE.search(text), RESUME_LINE.search(text)
        if not (status and key and status[1] in ("ok", "invalid")):
            continue
        # The repeat that audits a sweep is a point's times at the sweep's end; the point itself has the say.
        if key[1] not in finished or not AUDIT_LINE.search(text):
            finished[key[1]] = path.parent
    return finished


@contextmanager
def alone_in(results_dir: Path) -> Iterator[None]:
    """Hold a folder for one sweep. Without locks, run ids keep two sweeps apart and only the warning is lost.

    Raises `RecordError` when another sweep holds it, or when it cannot be made.
    """
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        folder = os.open(results_dir, os.O_RDONLY)
    except OSError as error:
        raise _cannot_create(results_dir, results_dir, error) from error
    try:
        if _lock(folder) is False:
            raise RecordError(
                f"results_dir={results_dir}: another sweep is writing into it, and two would disturb each other's"
                " times; wait for it, or choose another results_dir"
            )
        yield
    finally:
        os.close(folder)


def _lock(descriptor: int) -> bool | None:
    """Hold a file or folder until it is closed; False when another process holds it, None where nothing can be held.

    The system lets go of it however the process ends.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _cannot_create(results_dir: Path, path: Path, error: OSError) -> RecordError:
    return RecordError(
        f"results_dir={results_dir}: cannot create {path} ({error.strerror}); choose one you can write to"
    )


def find_runs(paths: Sequence[Path]) -> Found:
    """Search files and folders, recursively, for runs; sorted by creation time.

    Raises `RecordError` when a path does not exist. A broken record is returned as unreadable, not raised.
    """
    runs: list[StoredRun] = []
    unreadable: list[Unreadable] = []
    for each in read_runs(record_paths(paths)):
        if isinstance(each, StoredRun):
            runs.append(each)
        else:
            unreadable.append(each)
    unfinished, broken = unfinished_runs(paths)
    runs.sort(key=lambda run: (run.record.created_at, run.record.run_id))
    return Found(tuple(runs), (*unreadable, *broken), unfinished)


def read_runs(records: Iterable[Path]) -> Iterator[StoredRun | Unreadable]:
    """The runs of these run.json files one at a time, so that thousands need not be held."""
    for path in records:
        try:
            yield StoredRun(read_record(path), path.parent)
        except RecordError as error:
            yield Unreadable(path, str(error).removeprefix(f"{path}: "))


def unfinished_runs(paths: Sequence[Path]) -> tuple[tuple[Unreadable, ...], tuple[Unreadable, ...]]:
    """Runs that were killed before their record, and those of them that cannot be read."""
    unfinished: list[Unreadable] = []
    unreadable: list[Unreadable] = []
    for folder in _folders_without_record(paths):
        try:
            reason = f"interrupted before its record; {len(read_blocks(folder))} finished blocks"
        except OSError as error:
            unreadable.append(Unreadable(folder / BLOCKS, f"cannot read ({error.strerror})"))
        else:
            unfinished.append(Unreadable(folder, reason))
    return tuple(unfinished), tuple(unreadable)


def record_paths(paths: Sequence[Path]) -> list[Path]:
    """Every run.json at or below these paths, each once. Raises `RecordError` when a path does not exist."""
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise RecordError(f"{path}: no such file or folder")
        for candidate in sorted(path.rglob(RECORD)) if path.is_dir() else [path]:
            found.setdefault(candidate.resolve(), candidate)
    return list(found.values())


def _folders_without_record(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        for blocks in sorted(path.rglob(BLOCKS)) if path.is_dir() else ():
            if not (blocks.parent / RECORD).exists():
                found.setdefault(blocks.parent.resolve(), blocks.parent)
    return list(found.values())


def read_blocks(folder: Path) -> tuple[dict[str, Any], ...]:
    """The finished blocks of a run, as JSON objects; a last line cut off by a crash is left out."""
    path = folder / BLOCKS
    if not path.exists():
        return ()
    blocks = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            blocks.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return tuple(blocks)


def read_steps(folder: Path) -> pyarrow.Table | None:
    """The per-step table of a run (`step_table` tells its columns), or None when the run has none.

    Raises `RecordError` when the file is there and cannot be read.
    """
    path = folder / STEPS
    if not path.exists():
        return None
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise RecordError(f"{path}: cannot read ({error})") from error
