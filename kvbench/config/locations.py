"""Where the configuration groups are: inside an installed package, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGED = Path(__file__).parents[1] / "conf"  # where a wheel puts it
SOURCE = Path(__file__).parents[2] / "conf"  # where a checkout has it


def conf_folder() -> Path:
    """The folder of the configuration groups that come with kvbench."""
    return PACKAGED if PACKAGED.is_dir() else SOURCE
