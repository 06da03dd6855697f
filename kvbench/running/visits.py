"""One visit: an arm decodes a batch once, timed in a lane."""

from __future__ import annotations

from typing import Any

from kvbench.measuring.lanes import Stopwatch
from kvbench.plan import Plan
from kvbench.records.timings import Visit, tokens_sha256
from kvbench.running.session import Session


def visit(
    plan: Plan,
    session: Session,
    arm: int,
    batch: Any,
    lane: str,
    block: int | None,
    *,
    attention: str | None = None,
    new_tokens: int | None = None,
) -> Visit:
    """Run one arm over one batch in a lane ("throughput", "steps" or "trace"); `block` is None outside of blocks.

    `attention` and `new_tokens` take the place of the plan's.
    """
    decoder = session.decoder(arm, traced=lane == "trace", attention=attention)
    decoder.prepare(block)
    stopwatch = Stopwatch(session.clock, per_step=lane == "steps")
    # The timed region begins with `start` and ends with `finish`: nothing else belongs between them.
    stopwatch.start()
    decoded = decoder.run(batch, new_tokens or plan.config.workload.new_tokens, stopwatch, session.stop_ids)
    timing = stopwatch.finish()
    ids = session.new_ids(decoded)
    proof = session.proof(arm, batch, decoded.held_passes())
    return Visit(
        arm=arm,
        batch=batch.index,
        lane=lane,
        ttft_s=timing.ttft_s,
        decode_s=timing.decode_s,
        decode_device_s=timing.decode_device_s,
        decode_enqueue_s=timing.decode_enqueue_s,
        sequences=len(ids),
        new_tokens=sum(map(len, ids)),
        steps=max(map(len, ids)) - 1,
        step_s=timing.step_s,
        tokens_sha256=tokens_sha256(ids),
        passes_checked=proof.steps_checked,
        violations=proof.violations,
    )
