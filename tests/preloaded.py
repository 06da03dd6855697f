"""`python -m kvbench` in processes that have imported it already: most of what a short run takes goes into imports.

As a script this is the process that imports, and forks for every order that it reads; the fork ends as any Python does.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

IMPORTED = (
    *("hydra.core.plugins", "pyarrow.parquet", "kvbench.analysis.assemble", "kvbench.commands.sweep"),
    *("kvbench.commands.run", "kvbench.running.scripted", "kvbench.running.supervisor", "rich.progress"),
)  # fmt: skip


class Preloaded:
    """Starts runs of the command line. A context manager."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def start(
        self, *arguments: str, cwd: Path, outputs: Path, ctrl_c: signal.Handlers = signal.SIG_DFL, **env: str
    ) -> PreloadedRun:
        """A run in a process group of its own, in `cwd`; what it prints goes to two files in the folder `outputs`."""
        outputs.mkdir()
        order = {"arguments": arguments, "cwd": str(cwd), "outputs": str(outputs), "env": {**os.environ, **env}}
        return PreloadedRun(self, self.ask(order | {"ignores_ctrl_c": ctrl_c == signal.SIG_IGN}), outputs)

    def ask(self, order: dict[str, Any]) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()


@dataclass
class PreloadedRun:
    """What `subprocess.Popen` tells of a process, of one that was forked."""

    server: Preloaded
    pid: int
    outputs: Path
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.server.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("kvbench", timeout)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        self.wait(timeout)
        return (self.outputs / "1").read_text(encoding="utf-8"), (self.outputs / "2").read_text(encoding="utf-8")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


def serve() -> list[str] | None:
    """Obey until nobody is left to give orders: then None, and in each fork the arguments of its run."""
    for name in IMPORTED:
        import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        if "ended" in order:
            pid, status = os.waitpid(order["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                become(order)
                return [str(each) for each in order["arguments"]]
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    return None


def become(order: dict[str, Any]) -> None:
    """What a shell does to a process before the program begins."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN if order["ignores_ctrl_c"] else signal.default_int_handler)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(os.open(Path(order["outputs"]) / str(stream), os.O_WRONLY | os.O_CREAT), stream)


if __name__ == "__main__":
    arguments = serve()
    if arguments is not None:
        sys.argv = ["kvbench", *arguments]
        runpy.run_module("kvbench", run_name="__main__", alter_sys=True)
