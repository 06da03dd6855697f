"""The parser of every command: what is called wrongly is answered in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from kvbench.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is a `ConfigError` that names the command's own help."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise ConfigError(f"{message}; `python -m {self.prog} --help` shows what there is")
