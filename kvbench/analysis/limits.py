"""How far an arm is from what its machine could do, and what holds it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise

from kvbench.analysis.estimates import block_figures
from kvbench.arm import Arm
from kvbench.capabilities import INTERRUPTED, habits_of
from kvbench.model_costs import Cost, as_kept, cache_bytes, facts_from_mapping, pass_cost, step_cost, unknown_arithmetic
from kvbench.model_facts import ModelFacts
from kvbench.passes import Chunks
from kvbench.plan import Plan
from kvbench.records.arm_figures import Bound, Limit
from kvbench.records.ceilings import NO_CEILINGS, Ceilings
from kvbench.records.part import shared
from kvbench.records.run_record import NO_COSTS, FlopsCheck
from kvbench.records.samples import Prepared, RunSamples
from kvbench.records.untimed import CountedFlops, StepWork
from kvbench.statistics import median

RUNS = 32  # of neighbouring lengths over which a decode's cost is summed: exact up to so many steps
# From here on the device waits for the host most of the time, or would if it were one.
LAUNCH_SHARE = 0.5
# A timed step that takes this share of a first visit's still pays for lengths that are new.
STILL_FIRST = 0.75
MORE_COUNTED = (
    "torch's counter saw more arithmetic in a prefill than is predicted for this architecture (flops_check), so that"
    " what a step must do is not known"
)
LESS_COUNTED = (
    "torch's counter saw less arithmetic in a prefill than is predicted for this architecture (flops_check): either the"
    " prediction counts work that is not done, or the counter does not know an operator, so that what a step must do is"
    " not known"
)
MOST_APART = 1.05  # counted over predicted FLOPs, or predicted over counted
NO_TYPE = "the ceilings kept of this machine have no matrix rate in the model's type"
NO_STEPS = "no sequence had a decode step"
CHECKING = "not computed for a mode whose passes check proposed tokens, which differ in number"
OTHER_STEPS = "not asked of an interrupted run, whose steps are of several kinds"
DISTURBED = "in the profiled pass the ranks exchanged for longer than a timed step takes: something disturbed it"
NOT_MEASURED = "the run ended before its steps were measured"
COSTS = ("weight_bytes", "kv_bytes", "flops", "head_flops", "prefill_flops", "prefill_bytes")
OF_ARITHMETIC = ("flops", "prefill_flops", "floor_s", "compute_s", "mfu", "prefill_floor_s", "prefill_mfu")
FLOORS = ("floor_s", "memory_s", "compute_s", "mbu", "mfu", "prefill_floor_s", "prefill_mfu")


def limit(plan: Plan, samples: RunSamples, arm: int, ceilings: Ceilings | None) -> Limit:
    """The limits of one arm, as far as they are known."""
    step, prefill = _costs(plan, samples, arm)
    work = next((each for each in samples.work if each.arm == arm), None)
    figures = block_figures(samples.blocks, arm)
    itl_s = _median([block.itl_s for block in figures])
    ttft_s = _median([block.ttft_s for block in figures])
    dtype = str(samples.prepared.model.get("dtype")) if samples.prepared else ""
    devices = devices_of(samples)
    memory_s, compute_s = _floors(step, ceilings, dtype, devices)
    floor_s = None if memory_s is None or compute_s is None else max(memory_s, compute_s)
    prefill_memory_s, prefill_compute_s = _floors(prefill, ceilings, dtype, devices)
    launch_s = None if _several_kinds(plan) or plan.arms[arm].proposes else _launch_s(itl_s, work, ceilings)
    return Limit(
        floor_s=floor_s,
        bound=_bound(
            samples,
            arm,
            itl_s,
            launch_s,
            memory_s,
            compute_s,
            waits=work is not None and work.device_busy_s is not None,
        ),
        mbu=_share(memory_s, itl_s),
        mfu=_share(compute_s, itl_s),
        launch_s=launch_s,
        memory_s=memory_s,
        compute_s=compute_s,
        **(shared(Limit, step) if step else {}),
        **({**shared(Limit, work), "communication_s": _exchanged_s(plan, work, itl_s)} if work else {}),
        prefill_floor_s=(
            None if prefill_memory_s is None or prefill_compute_s is None else max(prefill_memory_s, prefill_compute_s)
        ),
        prefill_flops=prefill.flops if prefill else None,
        prefill_mfu=_share(prefill_compute_s, ttft_s),
        prefill_bytes=prefill.bytes if prefill else None,
    ).because(_reasons(plan, samples, arm, ceilings, step))


def _reasons(plan: Plan, samples: RunSamples, arm: int, ceilings: Ceilings | None, step: Cost | None) -> dict[str, str]:
    """Why fields of an arm's limit may be null, by their names."""
    reasons: dict[str, str] = {}
    if ceilings is None:
        reasons |= dict.fromkeys((*FLOORS, "launch_s"), NO_CEILINGS)
    elif samples.prepared and ceilings.flops_per_s(str(samples.prepared.model.get("dtype"))) is None:
        reasons |= dict.fromkeys(FLOORS, NO_TYPE)
    work = next((each for each in samples.work if each.arm == arm), None)
    missing = NOT_MEASURED if work is None else work.reason
    if missing is not None:
        reasons |= dict.fromkeys(("device_busy_s", "operations"), missing)
    if work is None or (work.device_busy_s is None and work.operations is None):
        reasons["launch_s"] = missing or NOT_MEASURED
    if step is None:
        reasons |= dict.fromkeys((*COSTS, *FLOORS), _without_costs(plan, samples, arm))
    elif step.flops is None and samples.prepared is not None:
        unknown = unknown_arithmetic(_facts(samples.prepared, samples.counted_flops)) or NO_COSTS
        reasons |= dict.fromkeys(OF_ARITHMETIC, unknown)
    if work is not None and work.communication_s is not None:
        reasons["communication_s"] = OTHER_STEPS if _several_kinds(plan) else DISTURBED
    if _several_kinds(plan):
        reasons["launch_s"] = OTHER_STEPS
    elif plan.arms[arm].proposes:
        reasons["launch_s"] = CHECKING
    elif samples.blocks and not _steps(samples, arm):
        reasons["launch_s"] = NO_STEPS
    needed = [reasons[name] for name in ("memory_s", "compute_s", "launch_s") if name in reasons]
    reasons["bound"] = needed[0] if needed else NOT_MEASURED
    return reasons


def _without_costs(plan: Plan, samples: RunSamples, arm: int) -> str:
    if _several_kinds(plan):
        return OTHER_STEPS
    if plan.arms[arm].proposes:
        return CHECKING
    if not samples.blocks:
        return NOT_MEASURED
    if not _steps(samples, arm):
        return NO_STEPS
    return _refuted(samples) or NO_COSTS


def flops_check(samples: RunSamples) -> FlopsCheck | None:
    """The predicted FLOPs of the prefill that was counted; None where none was."""
    counted = samples.counted_flops
    if counted is None or samples.prepared is None:
        return None
    facts, all_logits = _facts(samples.prepared, counted), samples.prepared.model.get("computes_all_logits")
    predicted = pass_cost(facts, counted.batch, counted.tokens, logits=counted.tokens if all_logits else 1)
    return FlopsCheck(
        batch=counted.batch,
        tokens=counted.tokens,
        predicted=predicted.square_flops if predicted else None,
        counted=counted.flops,
    ).because({"counted": counted.reason or "", "predicted": unknown_arithmetic(facts) or NO_COSTS})


def _facts(prepared: Prepared, counted: CountedFlops | None) -> ModelFacts:
    """The model's facts, with the weights that a pass was seen to read."""
    facts = facts_from_mapping(prepared.model)
    return facts if counted is None or counted.weights is None else replace(facts, weight_parts=counted.weights)


def _refuted(samples: RunSamples) -> str | None:
    """Why the run itself shows that the formula is wrong for this model, or None where it does not."""
    found = flops_check(samples)
    if found is None or not found.predicted or found.counted is None:
        return None
    if found.counted > MOST_APART * found.predicted:
        return MORE_COUNTED
    return LESS_COUNTED if found.predicted > MOST_APART * found.counted else None


def _steps(samples: RunSamples, arm: int) -> int:
    return sum(visit.steps for visit in samples.blocks[0].visits if visit.arm == arm)


def _several_kinds(plan: Plan) -> bool:
    return any(arm.mode in INTERRUPTED for arm in plan.arms)


def _costs(plan: Plan, samples: RunSamples, arm: int) -> tuple[Cost | None, Cost | None]:
    """The mean cost of a decode step and of a prefill, over the steps and batches that were measured."""
    prepared, blocks = samples.prepared, samples.blocks
    if prepared is None or not blocks or _several_kinds(plan) or plan.arms[arm].proposes or _refuted(samples):
        return None, None
    facts, spec = _facts(prepared, samples.counted_flops), plan.arms[arm]
    all_logits = "all_logits" in habits_of(spec.mode, spec.habit) or bool(prepared.model.get("computes_all_logits"))
    steps: list[tuple[int, Cost | None]] = []
    prefills: list[Cost | None] = []
    for number, members in enumerate(prepared.batches):
        prompts = [len(prepared.prompts[index]["token_ids"]) for index in members]
        count = next((v.steps for v in blocks[0].visits if v.arm == arm and v.batch == number), 0)
        chunks = Chunks(plan.config.workload.prefill_chunk if spec.keeps_past else None)
        prefills.append(_over_rows(prompts, partial(_prefill, facts, chunks=chunks, all_logits=all_logits)))
        if count:
            one = partial(_mean_step, facts, count=count, arm=spec, all_logits=all_logits)
            steps.append((count, _over_rows(prompts, one)))
    total = sum(count for count, _ in steps)
    known = [(count / total, cost) for count, cost in steps if cost is not None]
    if not known or len(known) < len(steps):
        return None, None
    whole = [(1 / len(prefills), cost) for cost in prefills if cost is not None]
    return _weighted(known), _weighted(whole) if whole else None


def _over_rows(prompts: Sequence[int], cost_of: Callable[[int, int], Cost | None]) -> Cost | None:
    """The cost of a batch by `cost_of`, which takes rows and the length of their prompts.

    Every row counts with its own length: what fills a shorter one up is submitted, and needed by nobody. Weights are
    read once for all of them.
    """
    whole = cost_of(len(prompts), round(sum(prompts) / len(prompts)))
    if whole is None or len(set(prompts)) == 1:
        return whole
    parts = [cost_of(rows, prompt) for prompt, rows in Counter(prompts).items()]
    known = [cost for cost in parts if cost is not None]
    if len(known) < len(parts):
        return None
    return replace(_weighted([(1, cost) for cost in known]), weight_bytes=whole.weight_bytes)


def _prefill(facts: ModelFacts, rows: int, prompt: int, chunks: Chunks, *, all_logits: bool) -> Cost | None:
    """All passes over a prompt: each piece reads the weights again, and what the pieces before it have cached."""
    passes = [
        pass_cost(facts, rows, end - begin, begin, logits=end - begin if all_logits else 1)
        for begin, end in chunks.spans(0, prompt)
    ]
    known = [cost for cost in passes if cost is not None]
    return _weighted([(1, cost) for cost in known]) if len(known) == len(passes) else None


def _mean_step(facts: ModelFacts, rows: int, prompt: int, count: int, arm: Arm, all_logits: bool) -> Cost | None:
    """The mean over steps that end at prompt + 1 to prompt + count tokens.

    Of each run of neighbouring lengths the middle one stands for all, or the two middle ones for half of them each.
    """
    known: list[tuple[float, Cost]] = []
    edges = [prompt + count * run // min(count, RUNS) for run in range(min(count, RUNS) + 1)]
    for before, last in pairwise(edges):
        middles = {(before + 1 + last) // 2, (before + 2 + last) // 2}
        for middle in middles:
            logits = middle if all_logits and not arm.keeps_past else 1
            cost = step_cost(as_kept(facts, arm.cache), rows, middle, keeps_past=arm.keeps_past, logits=logits)
            if cost is None:
                return None
            if arm.is_lossy:  # fewer bytes have to be read
                held = cache_bytes(facts, arm.cache, rows, middle, prompt=prompt)
                cost = replace(cost, kv_bytes=cost.kv_bytes if held is None else held)
            known.append(((last - before) / count / len(middles), cost))
    return _weighted(known)


def _weighted(costs: Sequence[tuple[float, Cost]]) -> Cost:
    def mean(name: str) -> int | None:
        parts = [(weight, getattr(cost, name)) for weight, cost in costs]
        return None if any(part is None for _, part in parts) else round(sum(weight * part for weight, part in parts))

    return Cost(**{each.name: mean(each.name) for each in fields(Cost)})  # type: ignore[arg-type]


def devices_of(samples: RunSamples) -> int:
    """How many devices shared the model; ranks on a CPU share one."""
    prepared = samples.prepared
    if prepared is None or str(prepared.environment.get("device", "cpu")).startswith("cpu"):
        return 1
    return int(prepared.model.get("ranks") or 1)


def _floors(
    cost: Cost | None, ceilings: Ceilings | None, dtype: str, devices: int
) -> tuple[float | None, float | None]:
    """Seconds of reading, and of computing, at the ceilings of all devices together.

    Each of them reads its part of the bytes.
    """
    if cost is None or ceilings is None:
        return None, None
    rate = ceilings.flops_per_s(dtype)
    bandwidth = ceilings.bytes_per_s(cost.bytes // devices)
    memory_s = None if bandwidth is None else cost.bytes / (bandwidth * devices)
    return memory_s, None if rate is None or cost.flops is None else cost.flops / (rate * devices)


def _exchanged_s(plan: Plan, work: StepWork, itl_s: float | None) -> float | None:
    """What ranks exchanged in the profiled pass, where it can be a part of the steps that were timed."""
    exchanged_s = work.communication_s
    if exchanged_s is None or itl_s is None or exchanged_s > itl_s or _several_kinds(plan):
        return None
    return exchanged_s


def _launch_s(itl_s: float | None, work: StepWork | None, ceilings: Ceilings | None) -> float | None:
    if work is None or itl_s is None:
        return None
    if work.device_busy_s is not None:
        return max(0.0, itl_s - work.device_busy_s)
    if work.operations is None or ceilings is None:
        return None
    return work.operations * ceilings.launch_s


def _bound(
    samples: RunSamples,
    arm: int,
    itl_s: float | None,
    launch_s: float | None,
    memory_s: float | None,
    compute_s: float | None,
    *,
    waits: bool,
) -> Bound | None:
    """What most of a step goes to. `waits` says whether a device was seen waiting for its host.

    Where the host computes itself, submitting, reading and computing are one after another, and the longest of the
    three counts; a floor of a hundredth of the step would else give it its name.
    """
    if itl_s is None:
        return None
    if _still_first(samples, arm, itl_s):
        return "first-visit"
    if launch_s is not None and launch_s >= LAUNCH_SHARE * itl_s:
        return "launch"
    if memory_s is None or compute_s is None or launch_s is None:
        return None
    if not waits and launch_s >= max(memory_s, compute_s):
        return "launch"
    return "memory" if memory_s >= compute_s else "compute"


def _still_first(samples: RunSamples, arm: int, itl_s: float) -> bool:
    """Whether the timed steps take as long as first visits do, where a second visit would be much faster."""
    evidence = next((each for each in samples.cold_evidence if each.arm == arm), None)
    if evidence is None or not evidence.probes:
        return False
    own = evidence.probes[0]
    return own.second_itl_s < STILL_FIRST * own.first_itl_s and itl_s >= STILL_FIRST * own.first_itl_s


def _share(least_s: float | None, taken_s: float | None) -> float | None:
    return None if least_s is None or not taken_s else least_s / taken_s


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known and len(known) == len(values) else None
