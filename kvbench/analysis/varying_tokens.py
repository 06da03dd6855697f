"""Whether timed visits gave the tokens of the untimed pass."""

from __future__ import annotations

from collections import Counter

from kvbench.records.samples import RunSamples


def arms_with_other_tokens(samples: RunSamples) -> dict[int, int]:
    """Arm to the number of its timed visits whose tokens differ from those of its untimed pass."""
    expected = {untimed.arm: untimed.tokens_sha256 for untimed in samples.untimed}
    differing: Counter[int] = Counter(
        visit.arm
        for block in samples.all_blocks
        for visit in block.visits
        if visit.arm in expected and expected[visit.arm][visit.batch] != visit.tokens_sha256
    )
    return dict(differing)
