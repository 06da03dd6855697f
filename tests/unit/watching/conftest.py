"""What holds after every watch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch.utils._python_dispatch import _get_current_dispatch_mode


@pytest.fixture(autouse=True)
def nothing_goes_on_listening() -> Iterator[None]:
    """A mode that stays behind slows every operator of the process, and torch compiles nothing beside it."""
    yield
    assert _get_current_dispatch_mode() is None  # type: ignore[no-untyped-call]
