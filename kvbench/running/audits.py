"""The instrument put to the test in mid-run: the same arm twice, fresh prompts, and the cost of being watched."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from kvbench.plan import Plan
from kvbench.records.samples import Watching
from kvbench.records.timings import AuditBlock
from kvbench.running.session import Session
from kvbench.running.visits import visit

CONDITIONS = ("repeat", "again", "fresh", "unwatched")
SETTLE_S = 0.02  # for the parent to hear that it shall not look


def audit_blocks(plan: Plan, session: Session, index: int, emit: Callable[[Watching], None]) -> Iterator[AuditBlock]:
    """Visit every arm under every condition, in an order drawn from the run's seed."""
    dice = random.Random(f"audit:{plan.config.measure.seed}:{index}")  # noqa: S311 - an order, not a secret
    for arm in range(len(plan.arms)):
        ttft_s, decode_s = {}, {}
        for condition in dice.sample(CONDITIONS, len(CONDITIONS)):
            if condition == "unwatched":
                emit(Watching(on=False))
                session.clock.wait(SETTLE_S)
            batches = session.batches
            if condition == "fresh":
                batches = [session.fresh_batch(batch, dice.getrandbits(32)) for batch in session.batches]
            visits = [visit(plan, session, arm, batch, "throughput", index) for batch in batches]
            if condition == "unwatched":
                emit(Watching(on=True))
            ttft_s[condition] = sum(each.ttft_s for each in visits)
            decode_s[condition] = sum(each.decode_s for each in visits)
        yield AuditBlock(index, arm, ttft_s, decode_s)
