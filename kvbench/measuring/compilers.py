"""The compilers that torch.compile and Triton call on this machine."""

from __future__ import annotations

import os
import shutil

# The variable that names one, and what is looked for where it is not set.
HOST = ("CXX", ("g++", "clang++"))  # torch.compile on the CPU
DEVICE = ("CC", ("gcc", "clang", "cc"))  # Triton's launchers


def found_compiler(device_type: str) -> str | None:
    """The compiler that a compiled step on a device of this type needs; None when there is none."""
    variable, usual = DEVICE if device_type == "cuda" else HOST
    stated = os.environ.get(variable)
    return next((name for name in ((stated,) if stated else usual) if shutil.which(name)), None)
