"""The keys of `model=scripted`: a script that spends exactly the time that it is told, to test the instrument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvbench.config.conditions import SCRIPTED, SEEDED_MODEL
from kvbench.options import setting

FAILURES = ("error", "oom", "crash", "hang")
SENSORS = ("none", "steady", "throttled", "throttled_once", "stalled", "zero", "vanishing", "host_pids")
LONGEST_S = 1e9  # thirty years: of any time of a script, so that no sum of them leaves the numbers
SHORTEST_S = 1e-12  # of a time that something is divided by
LARGEST_SEED = 2**63 - 1  # torch's generators take no more


def scripted(default: Any, help: str, **range_: Any) -> Any:
    """A `setting` of the scripted model. They describe one script, whichever of its times a run comes to spend."""
    return setting(default, f"scripted: {help}", effective=SCRIPTED, **range_)


@dataclass
class ScriptConfig:
    """What a scripted model spends, holds and fails with. They stand among the keys of `model`, which they follow."""

    prefill_s: float = scripted(0.010, "seconds of a prefill", minimum=SHORTEST_S, maximum=LONGEST_S)
    cached_step_s: float = scripted(0.001, "seconds of a cached decode step", minimum=SHORTEST_S, maximum=LONGEST_S)
    nocache_step_s: float = scripted(
        0.010, "seconds of a decode step without a cache", minimum=SHORTEST_S, maximum=LONGEST_S
    )
    per_token_s: float = scripted(
        0.0, "seconds added to a decode step per token of context", minimum=0, maximum=LONGEST_S
    )
    nocache_per_token_s: float = scripted(
        0.0, "the same of a step without a cache alone, on top of per_token_s", minimum=0, maximum=LONGEST_S
    )
    nocache_per_token2_s: float = scripted(
        0.0, "seconds added to a step without a cache per squared token of context", minimum=0, maximum=LONGEST_S
    )
    launch_s: float = scripted(
        0.0, "seconds in which the host submits a step, which is no shorter", minimum=0, maximum=LONGEST_S
    )
    communication_s: float = scripted(
        0.0, "seconds of a step in which ranks exchange tensors, on top of the others", minimum=0, maximum=LONGEST_S
    )
    parameters: int | None = scripted(
        None, "weights of 2 bytes, all in matrices (default: none)", minimum=1, maximum=2**50
    )
    drift: float = scripted(0.0, "relative change of every time from one block to the next", above=-1, maximum=1e3)
    host_drift: float = scripted(
        0.0, "relative change of the host's checks from before the blocks to after them", above=-1, maximum=1e3
    )
    noise: float = scripted(0.0, "relative standard deviation of each step", minimum=0, maximum=10)
    unseen_length_s: float = scripted(
        0.0,
        "seconds added to a step at a length never seen before, unless attention is pinned",
        minimum=0,
        maximum=LONGEST_S,
    )
    all_logits_s: float = scripted(
        0.0, "seconds that logits of every position add to a step without a cache", minimum=0, maximum=LONGEST_S
    )
    accepted: list[int] | None = scripted(
        None, "proposed tokens that a pass accepts, of one pass after another, over and over (default: all of them)"
    )
    draft_step_s: float = scripted(
        0.0, "seconds of the draft model for every token that it proposes", minimum=0, maximum=LONGEST_S
    )
    checked_token_s: float = scripted(
        0.0, "seconds that a pass takes longer for every proposed token", minimum=0, maximum=LONGEST_S
    )
    prepare_s: float = scripted(
        0.0, "seconds in which an engine other than eager prepares, once per arm", minimum=0, maximum=LONGEST_S
    )
    kernel: str | None = scripted(None, "name of the kernel that takes the device's time (default: none)")
    seed: int = setting(
        0,
        "scripted and random: seed of the noise, of the weights",
        minimum=0,
        maximum=LARGEST_SEED,
        effective=SEEDED_MODEL,
    )
    virtual_time: bool = scripted(True, "advance a virtual clock; false sleeps for real")
    fail_at_step: int | None = scripted(None, "fail at this decode step, counted over the whole run", minimum=1)
    fail_with: str = scripted("error", "how to fail", choices=FAILURES)
    fail_on_rank: int = scripted(0, "the rank that fails, of model.tensor_parallel ones", minimum=0)
    memory_bytes: int | None = scripted(
        None,
        "bytes of its memory; a pass that needs more runs out of it, crashes or hangs (fail_with)",
        minimum=1,
        maximum=2**60,
    )
    step_bytes_per_token: int = scripted(0, "bytes that a pass takes per submitted token", minimum=0, maximum=2**20)
    logprob_error: float = scripted(
        0.0,
        "nats by which a step with a cache gives lower log-probabilities than one pass over the text (check.rescore)",
        minimum=-1e3,
        maximum=1e3,
    )
    logprob_drift: float = scripted(
        0.0, "the same for each further new token, on top of logprob_error", minimum=-1e3, maximum=1e3
    )
    logprob_noise: float = scripted(
        1e-3, "nats by which another order of summing moves every log-probability", minimum=0, maximum=1
    )
    devices: int | None = scripted(
        None,
        "devices that a launched sweep finds on this host; runs wait for theirs (default: none)",
        minimum=1,
        maximum=4096,
    )
    sensors: str = scripted("none", "the device's sensors, and how they misbehave", choices=SENSORS)
