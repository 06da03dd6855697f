"""Run folders on disk: written so that a crash loses nothing finished, read so that one bad file harms no other."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from kvbench.errors import RecordError, reason_of
from kvbench.records.open_parts import BlockLine, PromptLine
from kvbench.records.run_record import SCHEMA_VERSION, RunRecord
from kvbench.records.step_table import checked_steps
from kvbench.records.timings import Block
from kvbench.text import shortened

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
    """A record together with the folder it was read from, of which nothing is told where it is `redacted`."""

    record: RunRecord
    folder: Path
    redacted: bool = False


@dataclass(frozen=True)
class Unreadable:
    """A path that should hold a run and cannot be used, with the reason in one line."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"

    @classmethod
    def of(cls, path: Path, error: RecordError) -> Unreadable:
        """A path, and why it cannot be used."""
        return cls(path, str(error).removeprefix(f"{path}: "))


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
    content = _content(path, MOST_RECORD_BYTES)
    with suppress(ValidationError):
        record = RunRecord.model_validate_json(content)
        if "schema_version" in record.model_fields_set:
            return record
    return _read_slowly(path, content)


def _content(path: Path, most: int) -> bytes:
    """A file's bytes. Raises `RecordError` for one that cannot be read, is larger than `most`, or is no file at all.

    A pipe would be waited for without end, and a device may have none.
    """
    try:
        with open(path, "rb", opener=_opened_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RecordError(f"{path}: not an ordinary file")
            if status.st_size > most:
                raise RecordError(f"{path}: larger than {most // 2**20} MiB, which no run writes")
            return file.read()
    except OSError as error:
        raise RecordError(f"{path}: cannot read ({error.strerror})") from error


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_slowly(path: Path, content: bytes) -> RunRecord:
    """The same in steps, four times as slow, with words for what is wrong."""
    try:
        data = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not UTF-8 text, so not a record") from error
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: not complete JSON (line {error.lineno}): truncated or edited") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a record: numbers or nesting beyond reason") from error
    if not isinstance(data, dict) or "schema_version" not in data:
        raise RecordError(f"{path}: not a kvbench record (no schema_version)")
    if data["schema_version"] != SCHEMA_VERSION:
        named = shortened(str(data["schema_version"]))
        raise RecordError(f"{path}: schema_version {named} is unknown to this kvbench, which reads {SCHEMA_VERSION}")
    try:
        # Validated from JSON, where lists stand for tuples.
        return RunRecord.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise RecordError(f"{path}: field {_told(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a record: numbers or nesting beyond reason") from error


def _told(error: ValidationError) -> str:
    """The first of what does not fit, where it stands and why."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = shortened("/".join(str(part) for part in first["loc"]))
    return f"{where}: {shortened(first['msg'].removeprefix('Value error, '))}"


def finished_runs(results_dir: Path) -> dict[str, Path]:
    """The newest run of each `resume_key` below a folder that came to its end, VALID or not: key to run folder.

    Raises `RecordError` for a folder or a record that the disk does not give: its point might be measured twice.
    """
    finished: dict[str, Path] = {}
    if not results_dir.is_dir():
        return finished
    for path in sorted(_files_called(RECORD, results_dir, _not_listed), key=lambda path: path.parent.name):
        try:
            text = _content(path, MOST_RECORD_BYTES).decode(errors="replace")
        except RecordError as error:
            raise not_known(error) from error
        status, key = STATUS_LINE.search(text), RESUME_LINE.search(text)
        if not (status and key and status[1] in ("ok", "invalid")):
            continue
        # The repeat that audits a sweep is a point's times at the sweep's end; the point itself has the say.
        if key[1] not in finished or not AUDIT_LINE.search(text):
            finished[key[1]] = path.parent
    return finished


def not_known(error: RecordError) -> RecordError:
    """The same of a sweep that would go on: whether a point is finished cannot be told."""
    return RecordError(
        f"{error}, so it is not known whether its point is finished; resume=false measures every point again"
    )


def _not_listed(error: OSError) -> None:
    raise not_known(RecordError(f"{error.filename}: cannot read ({error.strerror})")) from error


def make_results_dir(results_dir: Path) -> None:
    """Make the folder of a sweep, which others may write into as well. Raises `RecordError` when it cannot be made."""
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_create(results_dir, results_dir, error) from error


def _lock(descriptor: int) -> bool | None:
    """Hold a file until it is closed; False when another process holds it, None where nothing can be held.

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
            yield Unreadable.of(path, error)


def unfinished_runs(paths: Sequence[Path]) -> tuple[tuple[Unreadable, ...], tuple[Unreadable, ...]]:
    """Runs that were killed before their record, and what of them, or of the folders above, cannot be read."""
    unfinished: list[Unreadable] = []
    unreadable = [each for path in paths if path.is_dir() for each in _closed_folders(path)]
    for folder in _folders_without_record(paths):
        before = len(unreadable)
        count = len(read_blocks(folder, unreadable.append))
        if count or len(unreadable) == before:
            unfinished.append(Unreadable(folder, f"interrupted before its record; {count} finished blocks"))
    return tuple(unfinished), tuple(unreadable)


def record_paths(paths: Sequence[Path]) -> list[Path]:
    """Every run.json at or below these paths, each once. Raises `RecordError` when a path does not exist."""
    found: dict[Path, Path] = {}
    for path in paths:
        try:
            exists = path.exists()
        except (OSError, ValueError) as error:  # too long, or a folder above may not be entered
            raise RecordError(f"{path}: cannot read ({reason_of(error)})") from error
        if not exists:
            raise RecordError(f"{path}: no such file or folder")
        for candidate in sorted(_files_called(RECORD, path)) if path.is_dir() else [path]:
            found.setdefault(candidate.resolve(), candidate)
    return list(found.values())


def _files_called(name: str, folder: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Every entry of this name below a folder; links to folders are not followed.

    `on_error` is told of what the disk does not list, which is left out otherwise.
    """
    for where, folders, files in os.walk(folder, onerror=on_error):
        if name in files or name in folders:
            yield Path(where, name)


def _closed_folders(folder: Path) -> Iterator[Unreadable]:
    """The folders that may not be listed."""
    errors: list[OSError] = []
    for _ in os.walk(folder, onerror=errors.append):
        pass
    for error in errors:
        yield Unreadable(Path(str(error.filename)), f"cannot read ({error.strerror})")


def _folders_without_record(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        for blocks in sorted(_files_called(BLOCKS, path)) if path.is_dir() else ():
            if not (blocks.parent / RECORD).exists():
                found.setdefault(blocks.parent.resolve(), blocks.parent)
    return list(found.values())


# What lies beside a record. Each file is checked where it is read; what does not fit is left out and named.


MOST_RECORD_BYTES = 256 * 2**20
MOST_LINES_BYTES = 1024 * 2**20  # of blocks.jsonl or prompts.jsonl
MOST_STEPS = 20_000_000  # rows of a per-step table; a day of steps of a millisecond has more
_BLOCK = TypeAdapter(BlockLine)
_PROMPT = TypeAdapter(PromptLine)


Hearer = Callable[[Unreadable], None]  # of what lies beside a record and does not fit


def nobody(_: Unreadable) -> None:
    """Hears of it, and keeps it to itself."""


def read_blocks(folder: Path, tell: Hearer = nobody) -> tuple[dict[str, Any], ...]:
    """The finished blocks of a run, as JSON objects (see `timings.Block`); `tell` hears of lines that are none.

    A last line without its end was cut off by a crash: it was never finished, and is left out without a word.
    """
    path = folder / BLOCKS
    if not path.exists():
        return ()
    try:
        *whole, rest = _content(path, MOST_LINES_BYTES).split(b"\n")
    except RecordError as error:
        tell(Unreadable.of(path, error))
        return ()
    blocks: list[dict[str, Any]] = []
    wrong: list[str] = []
    for number, line in enumerate(whole, start=1):
        try:
            _BLOCK.validate_json(line)
            blocks.append(json.loads(line))
        except ValidationError as error:
            wrong.append(f"line {number} is no block ({_told(error)})")
        except (ValueError, RecursionError):
            wrong.append(f"line {number} is no block")
    with suppress(ValueError, RecursionError):
        _BLOCK.validate_json(rest)
        blocks.append(json.loads(rest))  # whole but for the line's end
    if wrong:
        more = f", and {len(wrong) - 1} more lines" if len(wrong) > 1 else ""
        tell(Unreadable(path, f"{wrong[0]}{more}: left out"))
    return tuple(blocks)


def read_prompts(folder: Path, most: int, tell: Hearer = nobody) -> tuple[str, ...]:
    """The texts of a run's first prompts, at most so many; none, which `tell` hears, where the file is no such file."""
    path = folder / PROMPTS
    if not path.exists():
        return ()
    texts: list[str] = []
    try:
        lines = filter(None, _content(path, MOST_LINES_BYTES).split(b"\n", most)[:most])
        texts.extend(_PROMPT.validate_json(line)["text"] or "" for line in lines)
    except RecordError as error:
        tell(Unreadable.of(path, error))
        return ()
    except ValidationError as error:
        tell(Unreadable(path, f"line {len(texts) + 1} is no prompt ({_told(error)}): left out"))
        return ()
    return tuple(texts)


def read_steps(folder: Path) -> pyarrow.Table | None:
    """The per-step table of a run (`step_table` tells its columns), or None when the run has none.

    Raises `RecordError` when the file is there and cannot be read, or is no such table.
    """
    path = folder / STEPS
    if not path.exists():
        return None
    if not path.is_file():
        raise RecordError(f"{path}: not an ordinary file")
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_metadata(path).num_rows
        if rows > MOST_STEPS:
            raise RecordError(f"{path}: {rows:,} rows, more than {MOST_STEPS:,}")
        return checked_steps(pyarrow.parquet.read_table(path))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot read ({reason_of(error)})") from error
