"""What `kvbench.measure` is doing, in one line that changes: in a notebook, and in a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from kvbench.report.run_facts import phase_name
from kvbench.report.sentences import say
from kvbench.running.job import Progress
from kvbench.text import format_value, printable

PAUSE_S = 0.5  # between two that differ in their seconds alone
ERASE = "\r\x1b[K"  # back to the line's beginning, and clear it


class ProgressLine:
    """A context manager that `hear`s the messages of a measurement; it shows nothing with `quiet`, nor in a file.

    It writes when a message arrives and at no other time: a thread that redrew the line would disturb the timed loops.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._began = time.monotonic()
        self._in_notebook = not quiet and is_notebook()
        self._in_terminal = not quiet and not self._in_notebook and _is_terminal()
        self._handle: Any = None  # IPython's, of the output that is updated
        self._phase: Progress | None = None
        self._shown_at = self._began

    def hear(self, message: Any) -> None:
        """Show the phase of a message that tells one; of any other, for how long it has been going on."""
        if isinstance(message, Progress):
            self._phase = message
        elif self._phase is None or time.monotonic() - self._shown_at < PAUSE_S:
            return
        self._show(_said(self._phase, time.monotonic() - self._began))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._phase is None:
            return
        if self._in_notebook:
            seconds = format_value(time.monotonic() - self._began, "s")
            code = "progress.measured" if error is None else "progress.ended"
            self._show(say(code, seconds=seconds))
        elif self._in_terminal:
            _write(ERASE)

    def _show(self, line: str) -> None:
        self._shown_at = time.monotonic()
        if self._in_notebook:
            from IPython.display import display

            said = {"text/plain": line}
            if self._handle is None:
                self._handle = display(said, raw=True, display_id=True)
            else:
                self._handle.update(said, raw=True)
        elif self._in_terminal:
            _write(f"{ERASE}{line[: shutil.get_terminal_size().columns - 1]}")


def is_notebook() -> bool:
    """Whether this process is a notebook's kernel, which shows what IPython displays."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # a terminal that was closed costs the line alone
        sys.stderr.write(text)
        sys.stderr.flush()


def _said(progress: Progress, seconds: float) -> str:
    said = {"phase": phase_name(progress.phase), "seconds": f"{seconds:.0f} s"}
    if progress.total is None or progress.total < 2:
        return printable(say("progress.phase", **said))
    return printable(say("progress.of", number=min(progress.done + 1, progress.total), total=progress.total, **said))
