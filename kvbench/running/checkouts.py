"""Two revisions of a git repository, each checked out in a folder of its own for as long as they are measured."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvbench.errors import BadInput
from kvbench.running.alternating import Side, Unfinished
from kvbench.text import printable

# Prints where a module would be imported from, as `python -m kvbench` would import it: the folder of the call first.
WHERE = "import importlib.util as u, sys; s = u.find_spec(sys.argv[1]); print(s.origin if s else '')"
TARGET = "model.target="
STANDARD_ERROR = 2  # standard output is the table's


@contextmanager
def checked_out(
    revisions: Sequence[tuple[str, str]], overrides: Sequence[str], setup: str | None, python: str | None
) -> Iterator[list[Side]]:
    """A side for each (name, revision) of the repository around the current folder, ready to be measured.

    `setup` is a shell command that is run once in each checkout. `python` is the interpreter, relative to the checkout;
    without one it is ours. Raises `BadInput` for a revision that there is not, and where a side would not import the
    code of its checkout; `Unfinished` where `setup` fails.
    """
    top = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel"))
    below = Path.cwd().relative_to(top.resolve())
    commits = [(name, _commit(top, revision)) for name, revision in revisions]
    with tempfile.TemporaryDirectory(prefix="kvbench-ab-") as scratch:
        checkouts = [(name, commit, Path(scratch) / name) for name, commit in commits]
        try:
            for _, commit, checkout in checkouts:
                _git(top, "worktree", "add", "--quiet", "--detach", str(checkout), commit)
            yield [
                _side(name, commit, checkout / below, overrides, setup, python) for name, commit, checkout in checkouts
            ]
        finally:
            for _, _, checkout in checkouts:
                if checkout.exists():
                    _git(top, "worktree", "remove", "--force", str(checkout))


def _side(
    name: str, commit: str, folder: Path, overrides: Sequence[str], setup: str | None, python: str | None
) -> Side:
    if setup is not None:
        ended = subprocess.run(  # noqa: S602 - the user's own command
            setup, shell=True, cwd=folder, stdin=subprocess.DEVNULL, stdout=STANDARD_ERROR, check=False
        )
        if ended.returncode:
            raise Unfinished(f"{name}: --setup ended with exit code {ended.returncode}: {printable(setup)}")
    interpreter = str(folder / python) if python else sys.executable
    own = [word.removeprefix(TARGET).partition(":")[0] for word in overrides if word.startswith(TARGET)]
    for module in (*(["kvbench"] if (folder / "kvbench" / "__init__.py").exists() else []), *own):
        _require_its_own(name, module, folder, interpreter)
    command = shlex.join([interpreter, "-m", "kvbench", *overrides])
    return Side(name, command.replace(str(folder), "."), folder, commit)


def _require_its_own(name: str, module: str, folder: Path, interpreter: str) -> None:
    """Both sides would measure the same code, whatever their commits are, if it came from elsewhere."""
    try:
        ended = subprocess.run(  # noqa: S603 - our own words and a module's name
            [interpreter, "-c", WHERE, module], cwd=folder, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BadInput(f"--python {interpreter}: cannot be run ({error.strerror})") from error
    origin = ended.stdout.strip()
    if not origin or not Path(origin).resolve().is_relative_to(folder.resolve()):
        found = f"comes from {origin}" if origin else "is not found"
        raise BadInput(
            f"{name}: the module {module} {found} and not from the checkout of {name}: install it there with --setup,"
            " and name that environment's interpreter with --python"
        )


def _commit(top: Path, revision: str) -> str:
    try:
        return _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except BadInput as error:
        raise BadInput(f"{printable(revision)}: no such revision here; in a shallow clone, fetch it first") from error


def _git(folder: Path, *arguments: str) -> str:
    try:
        ended = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607 - the git of this machine
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise BadInput(f"git cannot be run ({error.strerror})") from error
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or ["no message"]
        raise BadInput(f"git {arguments[0]}: {printable(lines[-1])}")
    return ended.stdout.strip()
