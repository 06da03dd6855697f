"""Whether results can be written, told before anything that writes them is loaded."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kvbench.errors import RecordError


def require_results_dir(results_dir: str) -> None:
    """Raise `RecordError` when the folder cannot be made, or nothing can be made in it."""
    folder = Path(results_dir).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    reason = errno.ENOTDIR if not nearest.is_dir() else None if os.access(nearest, os.W_OK | os.X_OK) else errno.EACCES
    if reason is not None:
        raise RecordError(
            f"results_dir={results_dir}: cannot create {Path(results_dir)} ({os.strerror(reason)}); choose one you can"
            " write to"
        )
