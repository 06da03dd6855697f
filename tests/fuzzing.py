"""What both fuzzers share: the command line called in this process, held to what every command promises, and counted.

A case must end by itself, with an exit code that its command knows, and with nothing on stderr but whole printable
lines of ours. `hypothesis` finds the structure of the cases from a seed; a case is plain data, so that one that failed
can be kept and run again.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

from kvbench.__main__ import main
from kvbench.text import LONGEST_LINE, printable

PATIENCE_S = 60  # a case takes a fraction of a second; on a busy machine a few

# Values that programs stumble over.
NUMBERS = (
    *(0, -1, 1, 2, 10**400, -(10**30), 2**31, 2**63, 2**64, 5, 99),
    *(0.0, -0.0, 1e308, -1e308, 1e-308, 1e-320, 0.5, -2.5, float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *(
        "",
        "ok",
        "invalid",
        "INVALID",
        "x" * 3000,
        "\x1b]0;owned\x07",
        "\x1b[31m",
        "a\nkvbench: b",
        "\u202eevil",
        "\ud800",
    ),
    *("=1+1", "\t=1+1", "<script>alert(1)</script>", "{{7*7}}", "${oc.env:HOME}", "../../up", "/dev/zero", "\0", "nan"),
    *("cached", "nocache", "steps", "throughput", "trace", "[x](javascript:alert(1))", "|", "%s%n", "𝒳", "null"),
)


def values() -> st.SearchStrategy[Any]:
    """Any JSON, mostly small."""
    leaves = st.one_of(
        st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.none(), st.booleans(), st.integers(), st.text()
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=4),
        max_leaves=8,
    )


@dataclass(frozen=True)
class Ran:
    """How one call of the command line ended."""

    code: int | None
    out: str
    err: str
    fault: str | None  # what it did that no command may


def run(argv: list[str], codes: tuple[int, ...]) -> Ran:
    """Call the command line; a fault is anything but one of these exit codes and whole lines of ours on stderr."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape") for _ in range(2))
    code: int | None = None
    fault: str | None = None
    try:
        with redirect_stdout(out), redirect_stderr(err), _limit():
            code = main(argv)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        fault = _place_of(error)
    out.flush(), err.flush()
    told = [stream.buffer.getvalue().decode(errors="replace") for stream in (out, err)]  # type: ignore[attr-defined]
    if fault is None:
        fault = _fault(code, codes, told[1])
    return Ran(code, told[0], told[1], fault)


def _fault(code: int | None, codes: tuple[int, ...], err: str) -> str | None:
    if code not in codes:
        return f"exit code {code}"
    for line in err.splitlines():
        if not line.startswith(("kvbench: ", "building the report over ")):
            return f"a line that is not ours: {line[:80]!r}"
        if printable(line) != line or len(line) > LONGEST_LINE + 100:
            return "a line that is not printable, or too long"
    if code == 2 and not err:
        return "exit code 2 without a word"
    return None


def _place_of(error: BaseException) -> str:
    """An error and the last line of ours that it came through."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "kvbench" in frame.filename]
    last = ours[-1] if ours else None
    place = f"{Path(last.filename).name}:{last.lineno}" if last else "outside"
    return f"{type(error).__name__} at {place}: {str(error)[:100]!r}"


@contextmanager
def _limit() -> Iterator[None]:
    def ended(*_: Any) -> None:
        raise TimeoutError(f"no end after {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Counts:
    """What came of the cases."""

    cases: int = 0
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)  # by command and exit code
    faults: dict[str, list[Any]] = field(default_factory=dict)  # by what was wrong: the cases

    def count(self, command: str, ran: Ran, case: Any) -> None:
        """One call of a case."""
        self.ended[command, "fault" if ran.fault else str(ran.code)] += 1
        if ran.fault:
            self.faults.setdefault(f"{command}: {ran.fault}", []).append(case)

    def table(self) -> str:
        """Calls by command and exit code, then every fault with its first case."""
        codes = sorted({code for _, code in self.ended})
        lines = [f"{'':24}" + "".join(f"{code:>8}" for code in codes)]
        lines += [
            f"{command:24}" + "".join(f"{self.ended[command, code]:>8}" for code in codes)
            for command in sorted({command for command, _ in self.ended})
        ]
        calls = sum(self.ended.values())
        lines.append(f"{self.cases} cases, {calls} calls, {len(self.faults)} kinds of fault")
        for fault, cases in self.faults.items():
            lines.append(f"{len(cases)} × {fault}\n    {json.dumps(cases[0])[:1500]}")
        return "\n".join(lines)


def fuzz(
    cases: st.SearchStrategy[Any],
    one: Callable[[Any, Counts], None],
    count: int,
    seed: int,
    minutes: float = math.inf,
) -> Counts:
    """Run so many cases, or as many as there are minutes for. A fault does not end them: all are counted."""
    counts = Counts()
    end = time.monotonic() + 60 * minutes

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(cases)
    def every(case: Any) -> None:
        if time.monotonic() >= end:
            raise _OutOfTimeError
        counts.cases += 1
        one(case, counts)

    with suppress(_OutOfTimeError):
        every()
    return counts


class _OutOfTimeError(BaseException):
    """Ends the drawing of cases; hypothesis lets it through, as it does Ctrl-C."""


def script(describe: str, cases: st.SearchStrategy[Any], one: Callable[[Path], Callable[[Any, Counts], None]]) -> int:
    """The main of a fuzzer's script: `one` makes the runner of a case in a folder; 1 when a fault was found."""
    import tempfile

    parser = argparse.ArgumentParser(description=describe.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="run no more cases after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the cases that failed, a line of JSON each")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the cases of such a file instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        os.chdir(folder)
        runner = one(Path(folder))
        if arguments.replay:
            counts = Counts()
            for line in arguments.replay.read_text().splitlines():
                counts.cases += 1
                runner(json.loads(line), counts)
        else:
            counts = fuzz(cases, runner, arguments.cases, arguments.seed, arguments.minutes)
    print(counts.table())  # noqa: T201 - the script's output
    if arguments.keep:
        failed = [case for found in counts.faults.values() for case in found]
        arguments.keep.write_text("".join(json.dumps(case) + "\n" for case in failed))
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit("run tests/benchmarks/fuzz_commands.py or fuzz_folders.py")
