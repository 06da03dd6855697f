"""Why a field of a record is null: one sentence for each, by JSON pointer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from kvbench.analysis.limits import NO_CEILINGS, NO_COSTS
from kvbench.arm import WHY_NONE

# Pointer patterns in the order they are tried. A null that none of them explains is a defect, and a test finds it.
RULES = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"/model", "the run ended before the model was known"),
        (r"/workload", "the run ended before the prompts were known"),
        (r"/shapes", "the run ended before the shapes were known"),
        (r"/stopping", "the run ended before its stopping rule did"),
        (r"/comparison", "one arm: there is nothing to compare"),
        (r"/environment/(cuda|hip|device_memory_bytes|device_uuid)", "the run is not on such a device"),
        (r"/environment/cudnn", "the run is not on such a device"),
        (
            r"/environment/(device_processes|other_device_processes)",
            "the device lists no processes, or only ids that are not of this process's world, as in a container",
        ),
        (r"/environment/git_(commit|dirty)", "kvbench does not run from a git checkout"),
        (r"/environment/.*", "the machine does not tell"),
        (r"/model/.*", "not stated by the model's configuration"),
        (r"/arms/\d+/cold/compile_s", "eager execution compiles nothing and captures nothing"),
        (r"/arms/\d+/cold/probes/\d+/.*", "told by torch's allocator and the device's sensors on a GPU only"),
        (r"/arms/\d+/cold/probes", "the run ended before there was a warm visit to hold the first one against"),
        (r"/arms/\d+/cold/.*", "the run ended before the first visit"),
        (r"/arms/\d+/itl_percentiles_s/.*", "too few steps: p50 needs 1, p90 64, p95 130, p99 662 (measure.step_lane)"),
        *((rf"/arms/\d+/{part}", why) for part, why in WHY_NONE.items()),
        (r"/arms/\d+/padding_share", "the run ended before its steps were measured, or no sequence had one"),
        (r"/arms/\d+/step_lane_cost", "the per-step lane was not measured"),
        (r"/arms/\d+/trace_cost", "token confidence was not traced in the blocks (trace.probabilities)"),
        (r"/arms/\d+/energy/.*", "the run ended before energy was measured"),
        (r"/arms/\d+/limit/bound", f"{NO_CEILINGS}; or they lack the model's type, or the step was not profiled"),
        (r"/arms/\d+/limit/.*", f"{NO_CEILINGS}; or they lack the model's type"),
        (r"/arms/\d+/proof/first_violation", "no step of the untimed pass broke its mode's promise, or there was none"),
        (r"/arms/\d+/proof/resubmitted_steps", "the run ended before the untimed pass"),
        (r"/frontier", "the largest sizes were not looked for: experiment=frontier does"),
        (r"/frontier/limit_bytes", "nothing limits the memory"),
        (r"/frontier/edges/\d+/tries/\d+/peak_bytes", "the try did not come to its end"),
        (r"/growth", "context lengths were not varied within this run: experiment=scaling does"),
        (r"/growth/laws/\d+/exponent", "the lengths are the same"),
        (r"/growth/laws/\d+/per_token2_s/value", "one length lies above the knee: two would tell a line from a square"),
        (r"/growth/.*/(ci_low|ci_high|level)", "an interval needs at least 2 blocks, that of a median 6"),
        (r"/ceilings", NO_CEILINGS),
        (r"/ceilings/host", "an earlier version measured these ceilings and not this"),
        (r"/sweep_audit", "the run is not the first point of a sweep measured again (audit=true)"),
        (r"/sweep_audit/held_still", "the intervals of the two runs do not tell, its detail says of which arms"),
        (r"/sweep_audit/arms/\d+/.*", "one of the two runs has no such figure; an interval needs 6 blocks"),
        (r"/host_checks", "the run ended before its blocks began"),
        (r"/host_checks/after", "the run ended before its blocks did"),
        (r"/(host_checks/(before|after)|ceilings/host)/.*", "measured on a CPU: on a GPU the host launches, no more"),
        (r"/flops_check", "the run ended before it"),
        (r"/flops_check/predicted", NO_COSTS),
        (r"/arms/\d+/memory/.*", "the run ended before the memory pass"),
        (r"/arms/\d+/memory_by_context/.*", "allocated_bytes: torch keeps no allocator statistics on this device"),
        (r"/arms/\d+/[a-z_]+/(ci_low|ci_high|level)", "an exact interval of a median needs at least 6 blocks"),
        (r"/arms/\d+/[a-z_]+/value", "no block has this figure"),
        (
            r"/arms/\d+/turns/\d+/paid_back_after_tokens",
            "asked of mode interrupted beside mode nocache only, where a step without a cache is the slower one",
        ),
        (r"/arms/\d+/turns/\d+/ttft_s/value", "the per-token lane has no such step (measure.step_lane)"),
        (r"/arms/\d+/turns/\d+/ttft_s/.*", "an exact interval of a median needs at least 6 blocks"),
        (r"/comparisons?(/\d+)?/break_even_context", "one length was measured: experiment=scaling measures several"),
        (r"/comparisons?(/\d+)?/extra_memory_bytes", "the peak of memory of one of the arms is not known"),
        (
            r"/comparisons?(/\d+)?/agreement/(first_divergence|divergence_sequence|top2_margin)",
            "free runs give the same tokens, or were not compared",
        ),
        (r"/comparisons?(/\d+)?/agreement/by_step/.*", "the logits of such a step are not finite numbers"),
        (r"/comparisons?(/\d+)?/agreement/noise_ways/.*", "this order of summing could not be tried, see skipped"),
        (r"/comparisons?(/\d+)?/agreement/round_trips/.*", "the logits, or what came back, are not finite numbers"),
        (
            r"/comparisons?(/\d+)?/agreement/verdict",
            "agreement was not checked, not judged, or is neither equality nor a fault: its detail says which",
        ),
        (r"/comparisons?(/\d+)?/agreement/.*", "agreement was not checked, or not judged: its detail says why"),
        (r"/references/.*", "the logits are not finite numbers"),
        (r"/comparisons?(/\d+)?/[a-z_]+/(ci_low|ci_high|level)", "an interval needs at least 2 blocks"),
        (r"/comparisons?(/\d+)?/[a-z_]+/value", "no block has this figure in both arms"),
        (r"/device_during", "the device has no sensors, or the run ended before its first block"),
        (r"/device_during/.*", "the device does not tell"),
        (r"/audits/\d+/passed", "a cost, told for information"),
        (r"/audits/\d+/ratio", "not a matter of times"),
        (r"/audits/\d+/ratio/value", "a visit took no time"),
        (r"/audits/\d+/ratio/.*", "an interval needs at least 2 blocks"),
        (r"/memory_timeline/\d+/.*", "device_used_bytes needs NVML and its device, process_rss_bytes a living worker"),
    )
)

# Hundreds of points share one reason, which stands at the series itself.
SERIES = re.compile(r"(/memory_timeline|/arms/\d+/memory_by_context|/comparisons?(?:/\d+)?/agreement/by_step)/")


def null_reasons(record: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    """JSON pointer to sentence for every null outside the configuration; `known` reasons win over the rules."""
    parts = {key: value for key, value in record.items() if key not in ("config", "null_reasons")}
    reasons: dict[str, str] = {}
    nulls = list(_nulls(parts, ""))
    without_value = {pointer.rpartition("/")[0] for pointer in nulls if pointer.endswith("/value")}
    for pointer in nulls:
        series = SERIES.match(pointer)
        figure, _, part = pointer.rpartition("/")
        # Without a figure there is no interval either, whatever the number of blocks.
        ruling = f"{figure}/value" if part in ("ci_low", "ci_high", "level") and figure in without_value else pointer
        reasons.setdefault(series[1] if series else pointer, known.get(pointer) or _by_rule(ruling))
    return reasons


@lru_cache(maxsize=4096)  # the points of a sweep lack the same figures
def _by_rule(pointer: str) -> str:
    for pattern, sentence in RULES:
        if pattern.fullmatch(pointer):
            return sentence
    return "not known"


def _nulls(value: Any, pointer: str) -> Iterator[str]:
    if value is None:
        yield pointer
    elif isinstance(value, dict):
        for key, item in value.items():
            if item is None or isinstance(item, (dict, list, tuple)):
                yield from _nulls(item, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if item is None or isinstance(item, (dict, list, tuple)):  # thousands of tokens are none of them
                yield from _nulls(item, f"{pointer}/{index}")
