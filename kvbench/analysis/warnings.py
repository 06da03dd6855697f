"""What a reader should know besides, of the run and of its device: nothing here makes a run INVALID."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.special import bdtrc

from kvbench.analysis.audits import arms_with_other_tokens
from kvbench.analysis.estimates import block_figures, drift, outliers
from kvbench.analysis.output_verdict import judge
from kvbench.library_versions import untested
from kvbench.plan import Plan
from kvbench.records.agreement_figures import ErrorFigures
from kvbench.records.evidence import DeviceDuring, RunWarning
from kvbench.records.samples import RunSamples
from kvbench.records.timings import POWER_CAP, Block, limits_between
from kvbench.statistics import median

MOST_FLIPS = 0.05  # of compared tokens: a quantised cache that changes more of them writes another text
TOLD_RATIO = 1.25  # of an arm's rounding error over recompute's: less is not worth a line
CHANCE = 1e-4  # that a sign test finds as many larger errors though there is nothing
MOST_NAMES = 3  # of tensors in a warning
NOISE = 0.05  # of the median, robust standard deviation from block to block: eight such blocks know it to 4 %
FOREIGN_CORES = 0.5  # kept busy by others on average: more than a desktop does at rest
RANDOM_WEIGHTS = (
    "the weights are random: times and bytes are those of the real shape, but such a model hardly looks at its context,"
    " so the agreement verdict would hardly notice a broken cache"
)
STEADY = 0.05  # relative spread of the clock from block to block that moves figures by no more than noise does
HEADROOM = 0.9  # of the device's memory; beyond it the allocator starts to give back and ask again


def run_warnings(plan: Plan, samples: RunSamples) -> tuple[RunWarning, ...]:
    """What a reader should know besides."""
    remarks = samples.prepared.remarks if samples.prepared else ()
    warnings = [*remarks, *samples.warnings]
    if version := untested_library(samples):
        warnings.append(RunWarning(code="transformers_untested", detail=version))
    if samples.stopped is not None and samples.stopped.reason.startswith("cap:"):
        warnings.append(RunWarning(code="stopping_cap", detail=samples.stopped.reason))
    warnings += _unused_tensors(samples)
    warnings += _other_outputs(plan, samples)
    warnings += _varying_tokens(plan, samples)
    warnings += _drifting(plan, samples)
    warnings += _noisy(plan, samples)
    warnings += _host(samples)
    warnings += device_warnings(samples)
    if plan.config.model.weights == "random" and plan.config.frontier.axes is None:
        warnings.append(RunWarning(code="random_weights", detail=RANDOM_WEIGHTS))
    return tuple(warnings)


def untested_library(samples: RunSamples) -> str | None:
    """A clause about the run's transformers where it is newer than any that kvbench was tested with."""
    installed = samples.prepared.environment.get("transformers") if samples.prepared else None
    return untested(installed) if installed else None


def _other_outputs(plan: Plan, samples: RunSamples) -> list[RunWarning]:
    """Arms that are no fault and yet not the same: a quantiser that loses much, kernels that round more."""
    warnings = []
    for figures in samples.agreement:
        judged, arm = judge(figures), plan.arms[figures.candidate_arm].label
        flips = figures.argmax_flips / max(1, figures.compared_tokens)
        if judged.differs_by and flips > MOST_FLIPS:
            detail = (
                f"{arm}: its quantisation changes the likeliest token at {flips:.0%} of the compared steps, so it"
                " writes another text: keep more bits, or a plain cache"
            )
            warnings.append(RunWarning(code="quantised_cache", detail=detail))
        error = figures.error
        if judged.verdict == "EQUAL_WITHIN_ROUNDING" and error is not None and _larger(error):
            detail = (
                f"{arm}: its rounding error is {error.ratio:.2f} times that of plain recompute, larger at"
                f" {error.larger_steps} of {error.samples} compared steps and rows: more than chance, though"
                " other kernels do as much"
            )
            warnings.append(RunWarning(code="larger_error", detail=detail))
    return warnings


def _larger(error: ErrorFigures) -> bool:
    """Whether errors are larger than rounding's too often for chance, by a sign test, and by enough to be told."""
    if not error.reference or error.ratio < TOLD_RATIO:
        return False
    return float(bdtrc(error.larger_steps - 1, error.samples, 0.5)) < CHANCE


def _varying_tokens(plan: Plan, samples: RunSamples) -> list[RunWarning]:
    return [
        RunWarning(
            code="tokens_vary",
            detail=f"{plan.arms[arm].label}: a timed visit gave other tokens than the untimed pass, so its kernels are"
            " not deterministic or the run leaks state",
        )
        for arm in sorted(arms_with_other_tokens(samples))
    ]


def _noisy(plan: Plan, samples: RunSamples) -> list[RunWarning]:
    """Arms whose step differs much from block to block, by a deviation that one odd block does not move."""
    warnings = []
    for number, arm in enumerate(plan.arms):
        steps = [figures.itl_s for figures in block_figures(samples.blocks, number) if figures.itl_s is not None]
        if len(steps) < 2:
            continue
        middle = median(steps)
        if middle <= 0:
            continue  # a step of no time: the checks say so
        spread = 1.4826 * float(np.median(np.abs(np.asarray(steps) - middle))) / middle
        if spread > NOISE:
            far = _standing_out(steps)
            warnings.append(
                RunWarning(
                    code="noise",
                    detail=f"{arm.label}: a decode step varies by {spread:.0%} from block to block{far}:"
                    " raise measure.blocks, or quieten the machine",
                )
            )
    return warnings


def _standing_out(steps: Sequence[float]) -> str:
    """How many blocks stand out by more than noise, and by how much; they stay in every figure."""
    middle = median(steps)
    far = [steps[place] / middle for place in outliers(steps) if abs(steps[place] / middle - 1) > NOISE]
    if not far:
        return ""
    worst = max(far, key=lambda ratio: max(ratio, 1 / ratio))
    stand = "1 stands" if len(far) == 1 else f"{len(far)} stand"
    return f", and of {len(steps)} blocks {stand} out, up to {worst:.2g} times the median"


def _unused_tensors(samples: RunSamples) -> list[RunWarning]:
    names = samples.prepared.unused_tensors if samples.prepared else ()
    if not names:
        return []
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    return [
        RunWarning(
            code="unused_tensors",
            detail=f"the checkpoint has {len(names)} tensors that the architecture has no place for: {shown}",
        )
    ]


def _drifting(plan: Plan, samples: RunSamples) -> list[RunWarning]:
    warnings = []
    for number, arm in enumerate(plan.arms):
        steps = [figures.itl_s for figures in block_figures(samples.blocks, number)]
        found = drift([step for step in steps if step is not None])
        if found is not None:
            word = "slower" if found.change > 0 else "faster"
            warnings.append(
                RunWarning(
                    code="drift",
                    detail=f"{arm.label} became {abs(found.change):.1%} {word} from the first blocks to the last"
                    f" (Kendall's tau {found.tau:.2f}, p = {found.p:.1g}): its median is of no one state; the speed-up"
                    " compares within blocks and hardly feels it",
                )
            )
    return warnings


def _host(samples: RunSamples) -> list[RunWarning]:
    """What the machine was like when the run began, as far as it bears on times; silence is no warning."""
    environment = samples.prepared.environment if samples.prepared else {}
    load, cores = environment.get("load_average_1m"), environment.get("logical_cores")
    governor = environment.get("cpu_governor")
    others = [block.other_cores for block in samples.blocks if block.other_cores is not None]
    others_cores = median(others) if others else 0.0
    conditions = (
        (
            "host_load",
            load is not None and cores is not None and load > cores / 2,
            f"the load average was {load or 0:.1f} on {cores} logical cores when the run began: other programs may have"
            " slowed it",
        ),
        (
            "host_busy",
            others_cores > FOREIGN_CORES,
            f"other processes kept {others_cores:.1f} CPU cores busy during the blocks: they take time"
            " from the host's side of every step",
        ),
        (
            "cpu_governor",
            governor not in (None, "performance"),
            f"the CPU's clock follows its load (governor {governor}), so short steps may run below full speed:"
            " `cpupower frequency-set -g performance` holds it",
        ),
        (
            "on_battery",
            environment.get("on_battery") is True,
            "the machine runs on its battery, which may hold its clocks down: plug it in",
        ),
        (
            "debug_build",
            environment.get("torch_debug") is True,
            "this torch is a debug build, several times slower than a release: install a release",
        ),
    )
    return [RunWarning(code=code, detail=detail) for code, holds, detail in conditions if holds]


def device_warnings(samples: RunSamples) -> list[RunWarning]:
    """What the device was like; silence is no warning."""
    environment = samples.prepared.environment if samples.prepared else {}
    warnings = [*_clocks(samples.blocks), *_silence(samples.all_blocks)]
    others = environment.get("other_device_processes")
    if others:
        warnings.append(
            RunWarning(
                code="device_shared",
                detail=f"{others} other {'process computes' if others == 1 else 'processes compute'} on the device:"
                " they share its time and memory",
            )
        )
    total = environment.get("device_memory_bytes")
    used = max((each.device_used_bytes or 0 for each in samples.host_readings), default=0)
    if total and used > HEADROOM * total:
        warnings.append(
            RunWarning(
                code="memory_headroom",
                detail=f"the device's memory was {used / total:.0%} full: near its end the allocator gives memory back"
                " and asks for it again, which costs time",
            )
        )
    return warnings


def _clocks(blocks: Sequence[Block]) -> list[RunWarning]:
    during = device_during(blocks)
    if during is None:
        return []
    warnings = []
    low, high = during.sm_clock_mhz_min, during.sm_clock_mhz_max
    if low and high and low < (1 - STEADY) * high:
        warnings.append(
            RunWarning(
                code="clocks",
                detail=f"the device's clock was between {low} and {high} MHz at the ends of the blocks: lock it"
                " (`nvidia-smi --lock-gpu-clocks`), or read the ratio, which compares within blocks",
            )
        )
    capped = during.limited_blocks.get(POWER_CAP)
    if capped:
        warnings.append(
            RunWarning(
                code="power_cap",
                detail=f"the device's power cap held its clock down in {capped} of {len(blocks)} blocks: the times are"
                " those of this cap",
            )
        )
    return warnings


def _silence(blocks: Sequence[Block]) -> list[RunWarning]:
    """Sensors that answered at first and not at the end."""
    if not blocks or blocks[0].device_before is None or blocks[-1].device_after is not None:
        return []
    return [
        RunWarning(
            code="sensors_lost",
            detail="the device's sensors fell silent during the blocks: whether it was throttled then is not known",
        )
    ]


def device_during(blocks: Sequence[Block]) -> DeviceDuring | None:
    """A summary of the readings around all blocks, those included that another stands for; None without readings."""
    readings = [each for block in blocks for each in (block.device_before, block.device_after) if each is not None]
    if not readings:
        return None
    limits: Counter[str] = Counter()
    for block in blocks:
        limits.update(limits_between(block.device_before, block.device_after, block.elapsed_s))
    # A device that idles before the first block has its clock down; what counts is where the blocks end.
    ends = [block.device_after for block in blocks if block.device_after is not None]
    clocks = [each.sm_clock_mhz for each in ends if each.sm_clock_mhz is not None]
    power = [each.power_w for each in readings if each.power_w is not None]
    temperatures = [each.temperature_c for each in readings if each.temperature_c is not None]
    throttled = {block.index for block in blocks if block.throttled}
    repeated = {block.repeats for block in blocks if block.repeats is not None}
    return DeviceDuring(
        sm_clock_mhz_min=min(clocks, default=None),
        sm_clock_mhz_max=max(clocks, default=None),
        power_w_max=max(power, default=None),
        temperature_c_max=max(temperatures, default=None),
        limited_blocks=dict(sorted(limits.items())),
        throttled_blocks=tuple(sorted(throttled)),
        repeated_blocks=tuple(sorted(repeated)),
    )
