"""A fault at every file operation of a run, a sweep, a sweep started again, a report and an export; and full disks.

python tests/benchmarks/disk_faults.py [--cases 2000] [--seed 0] [--minutes M] [--only faults] [--verbose]

A small library (gcc is needed) stands before the C library's file functions. It counts the operations on files below a
case's folder and has one of them fail: with an errno, by writing a part, or with a disk that is full from then on.
Then come disks of a few kilobytes (tmpfs where it may be mounted, and a limit on the size of files). After each case:
no traceback, at most one line on stderr, every block that was acknowledged can be read, every record is whole, no
temporary file is left; and the same sweep, started again without a fault, measures what is missing and nothing twice.
Each fault is tried at each operation; --cases draws so many of them. A table counts; the exit code is 1 when one went
wrong.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char below[4096];
static long at = -1, count = 0;
static int code = 0, part = 0, sticky = 0, full = 0;

void fault_arm(const char *folder, long place, int error, int short_write, int from_then_on) {
    strncpy(below, folder, sizeof below - 1);
    at = place; code = error; part = short_write; sticky = from_then_on; count = 0; full = 0;
}
long fault_count(void) { return count; }

static int ours(const char *path) {
    if (!below[0] || !path) return 0;
    if (path[0] != '/') return 1; /* a case runs in its folder */
    return strncmp(path, below, strlen(below)) == 0;
}
static int ours_open(int descriptor) {
    char link[64], path[4096];
    if (!below[0] || descriptor < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return ours(path) && path[0] == '/';
}
/* Whether this operation fails; `grows` is one that a full disk refuses. */
static int fails(int grows) {
    count++;
    if (full && grows) { errno = code; return 1; }
    if (count != at) return 0;
    if (sticky) { full = 1; if (!grows) return 0; }
    errno = code;
    return 1;
}
#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

static int opens(int (*real)(const char *, int, ...), const char *path, int flags, int mode) {
    if (ours(path) && fails((flags & O_CREAT) != 0 && access(path, F_OK) != 0)) return -1;
    return real(path, flags, mode);
}
int open(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    REAL(open); return opens(real, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    REAL(open64); return opens(real, path, flags, mode);
}
ssize_t write(int descriptor, const void *bytes, size_t size) {
    REAL(write);
    if (ours_open(descriptor) && fails(1)) {
        if (part && size > 1) { part = 0; return real(descriptor, bytes, size / 2); }
        return -1;
    }
    return real(descriptor, bytes, size);
}
int fsync(int descriptor) { REAL(fsync); if (ours_open(descriptor) && fails(0)) return -1; return real(descriptor); }
int rename(const char *from, const char *to) {
    REAL(rename); if (ours(to) && fails(0)) return -1; return real(from, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir); if (ours(path) && fails(1)) return -1; return real(path, mode);
}
ssize_t read(int descriptor, void *bytes, size_t size) {
    REAL(read); if (ours_open(descriptor) && fails(0)) return -1; return real(descriptor, bytes, size);
}
"""

POINT = (
    *("model=scripted", "workload.prompt_tokens=5", "workload.new_tokens=4", "measure.warmup=0", "measure.blocks=6"),
    *("launch=inline",),
)
SEEDS = 3
SWEEP = ("-m", *POINT, "report=false", f"model.seed=range(0,{SEEDS})")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": (*POINT, "report=false"),
    "run with its report": (*POINT, "report=true"),
    "sweep": SWEEP,
    "sweep with its report": (*SWEEP, "report=true"),
    "sweep started again": SWEEP,
    "report": ("report", "results", "--output", "page.html"),
    "export": ("export", "results", "--format", "csv", "--output", "runs.csv"),
    "show": ("show", "results"),
}
READS = ("report", "export", "show", "sweep started again")  # of runs that are there already


@dataclass(frozen=True)
class Fault:
    """What one operation fails with."""

    name: str
    code: int
    part: bool = False
    from_then_on: bool = False


FAULTS = (
    *(
        Fault(name, getattr(errno, name))
        for name in ("ENOSPC", "EIO", "EACCES", "EMFILE", "ESTALE", "ENOENT", "EDQUOT")
    ),
    Fault("a short write", errno.EIO, part=True),
    Fault("a short write, then full", errno.ENOSPC, part=True, from_then_on=True),
    Fault("full from then on", errno.ENOSPC, from_then_on=True),
)
SIZES = tuple(2**power for power in range(7, 22))  # of a file, or of a disk


@dataclass
class Ended:
    """How a command ended in its child."""

    code: int
    err: str
    operations: int
    acknowledged: list[tuple[str, int]]  # run folder and index of each block that was told to be on the disk


def in_child(folder: Path, arguments: Sequence[str], arm: Callable[[], None], operations: Callable[[], int]) -> Ended:
    """Run one command in a fork of this process, with a fault armed before it."""
    witness, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(witness)
            os.chdir(folder)
            errors = os.open(folder.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(errors, 2)
            signal.alarm(120)
            from kvbench.__main__ import main
            from kvbench.point import RunFolder
            from kvbench.records.timings import Block

            append = RunFolder.append_block

            def witnessed(run: RunFolder, block: Block) -> None:
                append(run, block)
                os.write(tell, f"{run.path}\t{block.index}\n".encode())

            RunFolder.append_block = witnessed  # type: ignore[method-assign]
            arm()
            code = main(list(arguments))
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
        os.write(tell, f"operations\t{operations()}\n".encode())
        os._exit(code)
    os.close(tell)
    with os.fdopen(witness) as told:
        lines = [line.rstrip("\n").split("\t") for line in told]
    _, status = os.waitpid(child, 0)
    count = next((int(number) for name, number in lines if name == "operations"), -1)
    blocks = [(name, int(number)) for name, number in lines if name != "operations"]
    err = folder.with_suffix(".err").read_text(errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), err, count, blocks)


def wrongs(command: str, folder: Path, ended: Ended, *, full: bool) -> Iterator[str]:
    """What a command did that it should not, by kind."""
    from kvbench.errors import RecordError
    from kvbench.records.store import BLOCKS, RECORD, read_blocks, read_record

    if "Traceback" in ended.err:
        yield "traceback: " + ended.err.strip().splitlines()[-1][:90]
        return
    if ended.code not in (0, 1, 2, 3):
        yield f"ended with {ended.code}"
    if ended.err.count("\n") > (1 if command not in READS else SEEDS + 1):
        yield "several lines"
    if ended.code == 2 and ended.acknowledged:
        yield "blamed on bad input after something was measured: " + ended.err.strip()[-60:]
    if ended.code != 0 and not ended.err and not list(folder.rglob(RECORD)):
        yield "nothing said and nothing kept"
    # Where the folder itself is full, nothing can be taken back but by removing it.
    if left := sorted(path.name for path in folder.rglob(".*.tmp")):
        yield f"left {left[0]}"
    for place in {place for place, _ in ended.acknowledged}:
        told = {index for where, index in ended.acknowledged if where == place}
        with suppress(OSError):
            kept = {block["index"] for block in read_blocks(folder / place)}
            if told - kept:
                yield "lost a block that was acknowledged"
            if kept - told:
                yield "kept a block that was not acknowledged"
        if not (folder / place / RECORD).exists() and "finished blocks are in" not in ended.err:
            yield "lost a record without saying where its blocks are"
    for path in folder.rglob(RECORD):
        try:
            read_record(path)
        except RecordError as error:
            yield f"wrote a record that cannot be read: {str(error)[-60:]}"
    for path in folder.rglob(BLOCKS):
        if not path.read_bytes().endswith(b"\n") and path.stat().st_size and not full:
            yield "left a part of a block"


def started_again(folder: Path, nothing: Callable[[], None], operations: Callable[[], int]) -> Iterator[str]:
    """What goes wrong when the same sweep is started again without a fault: every point once, and no more."""
    from kvbench.records.store import find_runs

    results = folder / "results"
    before = (
        {str(run.folder) for run in find_runs([results]).runs if run.record.status == "ok"}
        if results.exists()
        else set()
    )
    ended = in_child(folder, SWEEP, nothing, operations)
    if ended.code not in (0, 1) or "Traceback" in ended.err:
        yield f"cannot be started again: {ended.code} {ended.err.strip()[-80:]}"
        return
    seeds = Counter(
        run.record.config["model"]["seed"] for run in find_runs([results]).runs if run.record.status == "ok"
    )
    if dict.fromkeys(range(SEEDS), 1) != dict(seeds):
        yield f"points measured, by seed, after it was started again: {dict(seeds)} ({len(before)} before)"
    if list(folder.rglob(".*.tmp")):
        yield "started again, left a temporary file"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of so many bytes on `folder`; False where it may not be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def load_everything(folder: Path) -> None:
    """Run once in this process, so that no fork has to import what all need."""
    from kvbench.__main__ import main

    before = Path.cwd()
    os.chdir(folder)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        main(COMMANDS["run with its report"])
        main(COMMANDS["report"])
    os.chdir(before)
    shutil.rmtree(folder / "results")


class Faults:
    """All cases, counted."""

    def __init__(self, root: Path, library: ctypes.CDLL, *, verbose: bool) -> None:
        self._root = root
        self._library = library
        self._verbose = verbose
        self.tried: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._number = 0
        self.measured = self._folder()
        in_child(self.measured, COMMANDS["sweep with its report"], lambda: None, self._operations)

    def operations(self, command: str) -> int:
        """How many file operations a command makes."""
        folder = self._folder(command)
        return in_child(
            folder, COMMANDS[command], lambda: self._arm(folder, -1, FAULTS[0]), self._operations
        ).operations

    def at(self, command: str, place: int, fault: Fault) -> None:
        """One fault at one operation."""
        folder = self._folder(command)
        ended = in_child(folder, COMMANDS[command], lambda: self._arm(folder, place, fault), self._operations)
        self._judge(f"{command}", f"{fault.name} at operation {place}", folder, ended, full=fault.from_then_on)

    def limited(self, command: str, size: int) -> None:
        """No file may be larger than so many bytes."""
        folder = self._folder(command)

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        ended = in_child(folder, COMMANDS[command], limit, self._operations)
        self._judge(
            "files of a limited size", f"{command}, {size} bytes", folder, ended, full=True, sweep="sweep" in command
        )

    def on_small_disk(self, command: str, size: int) -> None:
        """All files together have so many bytes; then there is room again."""
        folder = self._folder()
        disk = folder / "results"
        disk.mkdir()
        with small_disk(disk, size) as mounted:
            if not mounted:
                return
            ended = in_child(folder, COMMANDS[command], lambda: None, self._operations)
            found = list(wrongs(command, folder, ended, full=True))
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            if "sweep" in command:
                found += started_again(folder, lambda: None, self._operations)
        self._count("a small disk", f"{command}, {size} bytes", found, ended)
        shutil.rmtree(folder)

    def _judge(
        self, kind: str, what: str, folder: Path, ended: Ended, *, full: bool, sweep: bool | None = None
    ) -> None:
        command = kind if kind in COMMANDS else what.split(",")[0]
        found = list(wrongs(command, folder, ended, full=full))
        if sweep if sweep is not None else "sweep" in kind:
            found += started_again(folder, lambda: None, self._operations)
        self._count(kind, what, found, ended)
        shutil.rmtree(folder)

    def _count(self, kind: str, what: str, found: Sequence[str], ended: Ended) -> None:
        self.tried[kind] += 1
        for wrong in found:
            self.wrong[f"{kind}: {wrong}"] += 1
        if found or self._verbose:
            print(f"{kind}, {what}: {ended.code} {ended.err.strip()[:200]!r} {'; '.join(found)}", flush=True)

    def _folder(self, command: str = "") -> Path:
        self._number += 1
        folder = self._root / str(self._number)
        if command in READS:
            shutil.copytree(self.measured, folder)
        else:
            folder.mkdir()
        return folder

    def _arm(self, folder: Path, place: int, fault: Fault) -> None:
        self._library.fault_arm(str(folder).encode(), place, fault.code, int(fault.part), int(fault.from_then_on))

    def _operations(self) -> int:
        return int(self._library.fault_count())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, help="faults that are drawn (default: every one at every operation)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("faults", "disks"), help="single operations, or small disks")
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--verbose", action="store_true", help="print each case")
    options = parser.parse_args()
    shim = os.environ.get("KVBENCH_FAULTS")
    if shim is None:  # once more, with the library before all others
        with tempfile.TemporaryDirectory(prefix="disk-faults-") as folder:
            source, shim = Path(folder, "faults.c"), str(Path(folder, "faults.so"))
            source.write_text(SHIM)
            subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", shim, source, "-ldl"], check=True)
            env = {**os.environ, "LD_PRELOAD": shim, "KVBENCH_FAULTS": shim, "OMP_NUM_THREADS": "1"}
            return subprocess.run([sys.executable, *sys.argv], env=env).returncode
    os.environ.pop("LD_PRELOAD")
    began_s = time.monotonic()
    os.environ["XDG_CACHE_HOME"] = "/nonexistent"
    with tempfile.TemporaryDirectory(prefix="disk-faults-") as root:
        load_everything(Path(root))
        faults = Faults(Path(root).resolve(), ctypes.CDLL(shim), verbose=options.verbose)
        places = {command: faults.operations(command) for command in COMMANDS}
        every = [
            (command, place, fault)
            for command in COMMANDS
            for place in range(1, places[command] + 1)
            for fault in FAULTS
        ]
        if options.cases is not None and options.cases < len(every):
            every = random.Random(options.seed).sample(every, options.cases)
        with suppress(KeyboardInterrupt):  # Ctrl-C: the table of what was tried so far
            for size in SIZES if options.only != "faults" else ():
                for command in ("run", "run with its report", "sweep"):
                    faults.limited(command, size)
                    faults.on_small_disk(command, max(size, 4096))
            for command, place, fault in every if options.only != "disks" else ():
                if options.minutes is not None and time.monotonic() > began_s + 60 * options.minutes:
                    break
                faults.at(command, place, fault)
    print(
        f"\nseed {options.seed}; file operations: "
        + ", ".join(f"{command} {number}" for command, number in places.items())
    )
    for kind, number in faults.tried.items():
        bad = sum(count for wrong, count in faults.wrong.items() if wrong.startswith(f"{kind}: "))
        print(f"{number:8}  {kind}: {bad} wrong")
    for wrong, number in faults.wrong.most_common():
        print(f"{number:8}  {wrong}")
    return 1 if faults.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
