"""The record of one run: what run.json holds, and its JSON Schema for readers in other languages.

The contract of everything that reads results. Names carry units. Unknown is null, and `null_reasons` maps its JSON
pointer to the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from kvbench.arm import WHY_NONE, Arm
from kvbench.records.agreement_figures import Agreement, ReferenceDistance
from kvbench.records.arm_figures import Cold, Energy, Limit, ProofResult, TokenPercentiles, Turn
from kvbench.records.ceilings import NO_CEILINGS, Ceilings
from kvbench.records.evidence import (
    Audit,
    DeviceDuring,
    HostChecks,
    HostSample,
    Phase,
    RunWarning,
    Sentence,
    Stopping,
    SweepAudit,
)
from kvbench.records.open_parts import ConfigurationOfARun, EnvironmentOfARun, ModelOfARun, ShapesOfARun
from kvbench.records.part import Estimate, Measured, Part, Speedup, figure
from kvbench.records.proposals import Proposals, SharedPrefix
from kvbench.records.rescoring import Rescore
from kvbench.records.scaling import Frontier, Growth
from kvbench.records.untimed import Memory, MemoryPoint, RankFigures

SCHEMA_VERSION = 1
NO_COSTS = "what a step must read and compute is not predicted for this architecture"
NO_PROCESSES = "the device lists no processes, or only ids that are not of this process's world, as in a container"
OF_A_DEVICE = ("cuda", "hip", "cudnn", "device_memory_bytes", "device_uuid")  # in the environment

SpeedVerdict = Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS", "INVALID"]
Status = Literal["ok", "invalid", "failed", "oom", "timeout", "crashed", "interrupted", "infeasible", "refused"]


class ArmRecord(Measured, Arm):  # type: ignore[misc]  # mypy does not see that every `Part` is frozen
    """One way of decoding and everything measured of it."""

    WHY_NULL = MappingProxyType(
        {
            **WHY_NONE,
            "padding_share": "the run ended before its steps were measured, or no sequence had one",
            "step_lane_cost": "steps were not timed one by one (measure.step_lane=false)",
            "trace_cost": "token confidence was not traced in the blocks (trace.probabilities)",
            "proposals": "the mode proposes no tokens, or the run ended before its untimed pass",
            "prefix": "the mode computes no common beginning once, or the run ended before its untimed pass",
        }
    )

    # Of the parts of an arm, those that no record lacks, and those that are figures.
    mode: str = Field()
    cache: str = Field()
    engine: str = Field()
    attention: str = Field()
    bucket: int | None = figure(
        "bucket", "tokens", "none", "Passes without a cache are padded to multiples of it.", default=None
    )
    cache_tokens: int | None = figure(
        "length of a static cache", "tokens", "none", "Length that was asked for.", default=None
    )
    cold: Cold
    ttft_s: Estimate = figure(
        "TTFT",
        "s",
        "lower",
        "Time to first token: submit to first new token on the device, mean over a block's batches; median of blocks.",
        "speed",
    )
    itl_s: Estimate = figure(
        "ITL",
        "s",
        "lower",
        "Inter-token latency: mean time of a decode step within a block, of a mode whose passes make several tokens"
        " decode time per token; median over blocks.",
        "speed",
    )
    decode_tokens_per_s: Estimate = figure(
        "decode tokens/s",
        "tokens/s",
        "higher",
        "New tokens after the pass that makes the first of every sequence ÷ decode time; median over blocks.",
        "speed",
    )
    end_to_end_tokens_per_s: Estimate = figure(
        "end-to-end tokens/s",
        "tokens/s",
        "higher",
        "All new tokens ÷ (TTFT + decode time); median over blocks.",
        "speed",
    )
    itl_percentiles_s: TokenPercentiles
    padding_share: float | None = figure(
        "padding to buckets",
        "ratio",
        "lower",
        "Tokens that decode steps without a past submit ÷ those that they need, minus 1; 0 at exact lengths.",
        "pass check",
        default=None,
    )
    step_lane_cost: float | None = figure(
        "cost of timing every step",
        "ratio",
        "none",
        "Decode time with every step timed by itself ÷ decode time without, minus 1.",
        "single steps",
    )
    # Records of before token confidence lack the field.
    trace_cost: float | None = figure(
        "cost of token confidence",
        "ratio",
        "none",
        "Decode time while token confidence is traced ÷ decode time without, minus 1.",
        "single steps",
        default=None,
    )
    memory: Memory
    ranks: tuple[RankFigures, ...] = ()  # of a model that is shared out over several; `memory` is their sum
    memory_by_context: tuple[MemoryPoint, ...]
    energy: Energy
    limit: Limit
    tokens: tuple[tuple[int, ...], ...] = figure(
        "new tokens", "index", "none", "Ids of the new tokens, a list per sequence."
    )
    texts: tuple[str, ...]
    text_ends: tuple[int, ...] = figure(
        "end of the text",
        "index",
        "none",
        "Characters of each text before its first end token, of the whole text where it has none; what follows was"
        " generated all the same (workload.stop=ignore).",
        default=(),
    )
    finish_reason: tuple[str, ...]
    proof: ProofResult
    turns: tuple[Turn, ...] = ()
    proposals: Proposals | None = None
    prefix: SharedPrefix | None = None
    outlier_blocks: tuple[int, ...] = figure(
        "outlying blocks", "index", "none", "Blocks whose ITL stands out; labelled, never left out.", default=()
    )


class Comparison(Part):
    """A candidate arm against the baseline arm of the same run; arms are indices into `arms`."""

    WHY_NULL = MappingProxyType(
        {
            "break_even_context": "one length was measured: experiment=scaling measures several",
            "extra_memory_bytes": "the peak of memory of one of the arms is not known",
        }
    )

    baseline_arm: int = figure("baseline", "index", "none", "Place of the baseline in the record's list of arms.")
    candidate_arm: int = figure("candidate", "index", "none", "Place of the candidate in the record's list of arms.")
    speedup: Speedup = figure(
        "decode speed-up", "times", "higher", "Decode speed of the candidate over the baseline's."
    )
    end_to_end_speedup: Speedup = figure(
        "end-to-end speed-up", "times", "higher", "End-to-end speed of the candidate over the baseline's."
    )
    extra_memory_bytes: int | None = figure(
        "extra memory", "bytes", "lower", "Peak allocated of the candidate less the baseline's."
    )
    break_even_context: int | None = figure(
        "break-even", "tokens", "lower", "Context length from which the candidate's step is the faster one."
    )
    agreement: Agreement
    verdict: SpeedVerdict
    reasons: tuple[str, ...]
    diagnosis: tuple[Sentence, ...] = ()


class Check(Part):
    """One line behind VALID or INVALID."""

    name: str
    passed: bool
    detail: str
    advice: str


class Keys(Part):
    """Digests of what must be equal: to compare two runs, and to skip a finished point."""

    compare_key: str
    resume_key: str


class Workload(Part):
    """Size and identity of what was decoded; lists hold one value per prompt."""

    prompt_tokens: tuple[int, ...] = figure("prompt", "tokens", "none", "Tokens of each prompt.")
    new_tokens: int = figure("new tokens", "tokens", "none", "New tokens of every sequence.")
    batch_size: int = figure("batch", "count", "none", "Sequences decoded together.")
    prompt_sha256: str


class FlopsCheck(Part):
    """Predicted FLOPs of one prefill beside those that torch's counter sees under eager attention."""

    WHY_NULL = MappingProxyType({"predicted": NO_COSTS})

    batch: int = figure("batch", "count", "none", "Sequences of the prefill.")
    tokens: int = figure("prompt", "tokens", "none", "Tokens of each sequence.")
    predicted: int | None = figure("predicted", "FLOP", "none", "By the formula.")
    counted: int | None = figure("counted", "FLOP", "none", "By torch's counter.")


def _places(value: Any) -> Iterator[int]:
    """The arms that a part of a record names, by their place in its list."""
    if isinstance(value, Part):
        for name in type(value).model_fields:
            if name in ("arm", "baseline_arm", "candidate_arm"):
                yield getattr(value, name)
            else:
                yield from _places(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _places(item)


class RunRecord(Part):
    """One run. A run that did not end holds what was known by then; `status` and `status_reason` say how it ended."""

    WHY_NULL = MappingProxyType(
        {
            "model": "the run ended before the model was known",
            "workload": "the run ended before the prompts were known",
            "shapes": "the run ended before the shapes were known",
            "stopping": "the run ended before its stopping rule did",
            "comparison": "one arm: there is nothing to compare",
            **{f"environment/{name}": "the run is not on such a device" for name in OF_A_DEVICE},
            **{f"environment/{name}": NO_PROCESSES for name in ("device_processes", "other_device_processes")},
            **{f"environment/git_{name}": "kvbench does not run from a git checkout" for name in ("commit", "dirty")},
            "environment/concurrent_runs": "the run did not come to the moment when its neighbours are looked at",
            "environment/*": "the machine does not tell",
            "model/*": "not stated by the model's configuration",
            "device_during": "the device has no sensors, or the run ended before its first block",
            "growth": "context lengths were not varied within this run: experiment=scaling does",
            "frontier": "the largest sizes were not looked for: experiment=frontier does",
            "ceilings": NO_CEILINGS,
            "flops_check": "the run ended before it",
            "host_checks": "the run ended before its blocks began",
            "sweep_audit": "the run is not the first point of a sweep measured again (audit=true)",
        }
    )

    schema_version: Literal[1] = 1
    run_id: str
    created_at: str
    kvbench_version: str
    status: Status
    status_reason: str | None
    config: ConfigurationOfARun
    keys: Keys
    environment: EnvironmentOfARun
    model: ModelOfARun | None
    workload: Workload | None
    shapes: ShapesOfARun | None
    arms: tuple[ArmRecord, ...]
    stopping: Stopping | None
    comparisons: tuple[Comparison, ...]
    comparison: Comparison | None
    checks: tuple[Check, ...]
    warnings: tuple[RunWarning, ...]
    memory_timeline: tuple[HostSample, ...]
    phases: tuple[Phase, ...] = ()
    device_during: DeviceDuring | None = None
    audits: tuple[Audit, ...] = ()
    references: tuple[ReferenceDistance, ...] = ()
    rescores: tuple[Rescore, ...] = ()
    growth: Growth | None = None
    frontier: Frontier | None = None
    ceilings: Ceilings | None = None
    flops_check: FlopsCheck | None = None
    host_checks: HostChecks | None = None
    sweep_audit: SweepAudit | None = None
    null_reasons: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _name_arms_that_are_there(self) -> Self:
        """Every place in the list of arms is one: a negative one would be another arm's figures."""
        places = (
            self.comparisons,
            self.comparison,
            self.audits,
            self.references,
            self.rescores,
            self.growth,
            self.frontier,
        )
        for place in places:
            for arm in _places(place):
                if not 0 <= arm < len(self.arms):
                    raise ValueError(f"arm {arm} is not one of the {len(self.arms)} arms")
        if any(each.candidate_arm == each.baseline_arm for each in self.comparisons):
            raise ValueError("an arm is compared with itself")
        return self

    @property
    def valid(self) -> bool:
        """Whether the run was measured and every check passed."""
        return self.status == "ok"


# The record's JSON Schema, for readers in other languages: each figure with its title, unit and better direction.


DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def record_schema() -> dict[str, Any]:
    """What run.json of this version's `schema_version` looks like; a record that `store.read_record` reads meets it."""
    return {"$schema": DIALECT, "title": f"kvbench run.json, version {SCHEMA_VERSION}", **_described()}


def record_schema_json() -> bytes:
    """The same, as a file."""
    return (json.dumps(record_schema(), indent=1, ensure_ascii=False) + "\n").encode()


def _described() -> dict[str, Any]:
    schema = RunRecord.model_json_schema()
    return {key: value for key, value in schema.items() if key != "title"}
