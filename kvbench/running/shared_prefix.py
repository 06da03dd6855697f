"""What the batches of a run share of their prompts, without torch."""

from __future__ import annotations

from kvbench.records.proposals import SharedPrefix
from kvbench.running.sessions import Session


def shared_prefix(session: Session, arm: int) -> SharedPrefix | None:
    """What mode=prefix submits for its prompts; None for other modes."""
    if session.plan.arms[arm].mode != "prefix":
        return None
    submitted = whole = 0
    for batch, members in zip(session.batches, session.batches.members, strict=True):
        whole += len(members) * batch.longest
        submitted += batch.shared + len(members) * (batch.longest - batch.shared)
    return SharedPrefix(
        shared_tokens=min(batch.shared for batch in session.batches),
        prefill_tokens=submitted,
        unshared_prefill_tokens=whole,
    )
