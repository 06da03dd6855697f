"""The lines behind VALID and INVALID, and the warnings that are neither."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.analysis.agreement import judge
from kvbench.analysis.comparison import MIN_BLOCKS
from kvbench.analysis.drift import drift
from kvbench.analysis.estimates import block_figures
from kvbench.measuring.samples import RunSamples
from kvbench.plan import Plan
from kvbench.records.schema import Check, RunWarning

MOST_NAMES = 3  # of tensors in a warning
RANDOM_WEIGHTS = (
    "the weights are random: times and bytes are those of the real shape, but such a model hardly looks at its context,"
    " so the agreement verdict would hardly notice a broken cache"
)


def run_checks(plan: Plan, samples: RunSamples) -> tuple[Check, ...]:
    """Every check that this run can be put to."""
    checks = [_mode_proof(plan, samples), _token_count(plan, samples)]
    if len(plan.arms) > 1:
        checks.append(_enough_blocks(samples))
        if plan.config.check.agreement != "none":
            checks.append(_agreement(plan, samples))
    uninterrupted = _modes(plan, "cached") or _modes(plan, "resumed")
    checks += [
        _uninterrupted(plan, samples, arm, uninterrupted[0]) for arm in _modes(plan, "interrupted") if uninterrupted
    ]
    return tuple(checks)


def run_warnings(plan: Plan, samples: RunSamples) -> tuple[RunWarning, ...]:
    """What a reader should know besides."""
    warnings = [RunWarning(code=warned.code, detail=warned.detail) for warned in samples.warnings]
    if samples.stopped is not None and samples.stopped.reason.startswith("cap:"):
        warnings.append(RunWarning(code="stopping_cap", detail=samples.stopped.reason))
    warnings += _unused_tensors(samples)
    warnings += _varying_tokens(plan, samples)
    warnings += _drifting(plan, samples)
    warnings += _host(samples)
    if plan.config.model.weights == "random":
        warnings.append(RunWarning(code="random_weights", detail=RANDOM_WEIGHTS))
    return tuple(warnings)


def _mode_proof(plan: Plan, samples: RunSamples) -> Check:
    per_arm = [
        sum(untimed.proof.violations for untimed in samples.untimed if untimed.arm == arm)
        + sum(visit.violations for block in samples.blocks for visit in block.visits if visit.arm == arm)
        for arm in range(len(plan.arms))
    ]
    steps = sum(untimed.proof.steps_checked for untimed in samples.untimed)
    first = next((untimed.proof.first_violation for untimed in samples.untimed if untimed.proof.first_violation), "")
    broken = [plan.arms[arm].label for arm, count in enumerate(per_arm) if count]
    if not broken:
        return Check(
            name="mode_proof", passed=True, detail=f"{steps} steps submitted what their mode promises", advice=""
        )
    return Check(
        name="mode_proof",
        passed=False,
        detail=f"{sum(per_arm)} steps of {', '.join(broken)} submitted something else than promised; {first}",
        advice="the model or its cache does not do what this mode measures: these times are of another computation",
    )


def _token_count(plan: Plan, samples: RunSamples) -> Check:
    wanted = plan.config.workload.new_tokens
    timed = [visit for block in samples.blocks for visit in block.visits]
    if plan.stop_rule == "ignore":
        wrong = sum(visit.new_tokens != wanted * visit.sequences for visit in timed)
        said = f"exactly {wanted} new tokens per sequence in {len(timed)} visits"
    else:
        wrong = sum(not visit.sequences <= visit.new_tokens <= wanted * visit.sequences for visit in timed)
        said = f"1 to {wanted} new tokens per sequence in {len(timed)} visits"
    return Check(
        name="token_count",
        passed=not wrong,
        detail=said if not wrong else f"{wrong} of {len(timed)} visits gave another number of tokens than asked for",
        advice="" if not wrong else "the decoder stops early or runs on: its rates cannot be compared",
    )


def _enough_blocks(samples: RunSamples) -> Check:
    count = len(samples.blocks)
    return Check(
        name="blocks",
        passed=count >= MIN_BLOCKS,
        detail=f"{count} blocks measured, a verdict needs {MIN_BLOCKS}",
        advice="" if count >= MIN_BLOCKS else f"raise measure.blocks to {MIN_BLOCKS} or more (the default is 8)",
    )


def _agreement(plan: Plan, samples: RunSamples) -> Check:
    figures = {each.candidate_arm: each for each in samples.agreement}
    verdicts = {arm: judge(figures.get(arm)) for arm in range(1, len(plan.arms))}
    wrong = [arm for arm, agreement in verdicts.items() if agreement.verdict in (None, "MISMATCH")]
    details = "; ".join(f"{plan.arms[arm].label} {agreement.verdict}" for arm, agreement in verdicts.items())
    return Check(
        name="agreement",
        passed=not wrong,
        detail=details if not wrong else "; ".join(f"{plan.arms[arm].label}: {verdicts[arm].detail}" for arm in wrong),
        advice="" if not wrong else "a cache that changes the output, or was not compared, has no speed to speak of",
    )


def _modes(plan: Plan, mode: str) -> list[int]:
    return [index for index, arm in enumerate(plan.arms) if arm.mode == mode]


def _uninterrupted(plan: Plan, samples: RunSamples, interrupted: int, kept: int) -> Check:
    """Whether the arm that lost its cache wrote what the one that kept it wrote."""
    tokens = {untimed.arm: untimed.tokens for untimed in samples.untimed}
    figures = {each.candidate_arm: each for each in samples.agreement}
    names = f"{plan.arms[interrupted].label} and {plan.arms[kept].label}"
    if tokens.get(interrupted) == tokens.get(kept):
        return Check(name="interruption", passed=True, detail=f"{names} wrote the same tokens", advice="")
    # Both were held against the first arm: where they part at a near-tie, that verdict is the judge.
    wrong = any(judge(figures[arm]).verdict == "MISMATCH" for arm in (interrupted, kept) if arm in figures)
    return Check(
        name="interruption",
        passed=bool(figures) and not wrong,
        detail=f"{names} wrote different tokens{'' if wrong or not figures else ', within what rounding does'}",
        advice="what is rebuilt after an interruption is not what was lost" if wrong or not figures else "",
    )


def _varying_tokens(plan: Plan, samples: RunSamples) -> list[RunWarning]:
    expected = {untimed.arm: untimed.tokens_sha256 for untimed in samples.untimed}
    varying = {
        visit.arm
        for block in samples.blocks
        for visit in block.visits
        if visit.arm in expected and expected[visit.arm][visit.batch] != visit.tokens_sha256
    }
    return [
        RunWarning(
            code="tokens_vary",
            detail=f"{plan.arms[arm].label}: a timed visit gave other tokens than the untimed pass, so its kernels are"
            " not deterministic or the run leaks state",
        )
        for arm in sorted(varying)
    ]


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
    conditions = (
        (
            "host_load",
            load is not None and cores is not None and load > cores / 2,
            f"the load average was {load or 0:.1f} on {cores} logical cores when the run began: other programs may have"
            " slowed it",
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


def failed(checks: Sequence[Check]) -> tuple[str, ...]:
    """One reason per failed check."""
    return tuple(f"{check.name}: {check.detail}" for check in checks if not check.passed)
