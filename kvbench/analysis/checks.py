"""The lines behind VALID and INVALID."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.analysis.audits import audit_checks
from kvbench.analysis.comparison import LEAST_BLOCKS
from kvbench.analysis.estimates import block_figures
from kvbench.analysis.output_verdict import judge
from kvbench.analysis.rescore_verdict import judge_rescore
from kvbench.analysis.warnings import untested_library
from kvbench.plan import Plan
from kvbench.records.agreement_figures import Agreement
from kvbench.records.run_record import Check
from kvbench.records.samples import RunSamples
from kvbench.text import format_value

MOST_BYTES_APART = 0.01  # relative, of what a rank holds and what was predicted
MOST_THROTTLED = 0.25  # of the blocks that count; more is not this device's speed any more


def run_checks(plan: Plan, samples: RunSamples) -> tuple[Check, ...]:
    """Every check that this run can be put to."""
    checks = [_mode_proof(plan, samples), _token_count(plan, samples), *_decoded(plan, samples), *_ranks(samples)]
    if len(plan.arms) > 1:
        checks.append(_enough_blocks(samples))
        if plan.config.check.agreement != "none":
            checks.append(_agreement(plan, samples))
    if plan.config.check.rescore:
        checks.append(_rescored(plan, samples))
    uninterrupted = _modes(plan, "cached") or _modes(plan, "resumed")
    checks += [
        _uninterrupted(plan, samples, arm, uninterrupted[0]) for arm in _modes(plan, "interrupted") if uninterrupted
    ]
    checks += _throttling(samples)
    checks += audit_checks(plan, samples)
    version = untested_library(samples)
    return tuple(_doubted(check, version) if version else check for check in checks)


def _doubted(check: Check, version: str) -> Check:
    """A failed check with another possible cause: a transformers that kvbench does not know yet."""
    return check if check.passed else check.model_copy(update={"advice": f"{check.advice}; {version}"})


def _mode_proof(plan: Plan, samples: RunSamples) -> Check:
    per_arm = [
        sum(untimed.proof.violations for untimed in samples.untimed if untimed.arm == arm)
        + sum(visit.violations for block in samples.blocks for visit in block.visits if visit.arm == arm)
        for arm in range(len(plan.arms))
    ]
    steps = sum(untimed.proof.steps_checked for untimed in samples.untimed)
    unseen = dict.fromkeys(text for untimed in samples.untimed for text in untimed.proof.unseen)
    first = next((untimed.proof.first_violation for untimed in samples.untimed if untimed.proof.first_violation), "")
    broken = [plan.arms[arm].label for arm, count in enumerate(per_arm) if count]
    if not broken:
        return Check(
            name="mode_proof",
            passed=True,
            detail="; ".join([f"{steps} steps submitted what their mode promises", *unseen]),
            advice="",
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


def _decoded(plan: Plan, samples: RunSamples) -> list[Check]:
    """A line only where an arm has no decode speed in some block, which leaves it without any."""
    lacking: dict[str, int] = {}
    ended = True
    for number, arm in enumerate(plan.arms):
        without = [figures for figures in block_figures(samples.blocks, number) if not figures.decode_tokens_per_s]
        ended = ended and all(figures.itl_s is None for figures in without)
        if without:
            lacking[arm.label] = len(without)
    if not lacking:
        return []
    arms = ", ".join(f"{label} in {count} of {len(samples.blocks)} blocks" for label, count in lacking.items())
    cause = "every sequence ended with its first token" if ended else "the decode steps took no time"
    return [
        Check(
            name="decode_steps",
            passed=False,
            detail=f"no decode speed of {arms}: {cause}",
            advice="use workload.stop=ignore, or prompts that go on" if ended else "raise workload.new_tokens",
        )
    ]


def _ranks(samples: RunSamples) -> list[Check]:
    """A line for a model that is shared out over ranks: the same tokens on all of them, and bytes as predicted."""
    timed = [visit for block in samples.all_blocks for visit in block.visits]
    ranks = [each for untimed in samples.untimed for each in untimed.ranks]
    if not ranks:
        return []
    apart = sum(visit.ranks_apart for visit in timed) + sum(not each.same_tokens for each in ranks)
    count = len(samples.untimed[0].ranks)
    other = [
        f"rank {each.rank} holds {format_value(held, 'bytes')} of {what}, and {format_value(predicted, 'bytes')} were"
        " predicted"
        for each in ranks
        for what, held, predicted in (
            ("weights", each.weights_bytes, each.weights_predicted_bytes),
            ("KV cache", each.kv_cache_bytes, each.kv_cache_predicted_bytes),
        )
        if held is not None and predicted is not None and abs(held - predicted) > MOST_BYTES_APART * predicted
    ]
    broken = [f"{apart} generations of a rank had other tokens than rank 0's"] if apart else []
    broken += list(dict.fromkeys(other))
    return [
        Check(
            name="ranks",
            passed=not broken,
            detail="; ".join(broken) or f"all {count} ranks wrote the same tokens in {len(timed)} generations",
            advice=""
            if not broken
            else "the ranks do not decode one model together: these times are of something else",
        )
    ]


def _enough_blocks(samples: RunSamples) -> Check:
    count = len(samples.blocks)
    return Check(
        name="blocks",
        passed=count >= LEAST_BLOCKS,
        detail=f"{count} blocks measured, a verdict needs {LEAST_BLOCKS}",
        advice="" if count >= LEAST_BLOCKS else f"raise measure.blocks to {LEAST_BLOCKS} or more (the default is 8)",
    )


def _throttling(samples: RunSamples) -> list[Check]:
    """A line only where the device could be asked."""
    if not any(block.device_after for block in samples.all_blocks):
        return []
    counting = samples.blocks
    standing = [block for block in counting if block.throttled]
    repeated = len(samples.all_blocks) - len(counting)
    causes = ", ".join(sorted({cause for block in samples.all_blocks for cause in block.throttled}))
    passed = len(standing) <= MOST_THROTTLED * len(counting)
    detail = f"{len(standing)} of {len(counting)} blocks throttled"
    if repeated:
        detail += f", after {repeated} were measured again"
    return [
        Check(
            name="throttling",
            passed=passed,
            detail=detail + (f" ({causes})" if causes else ""),
            advice="" if passed else "the device slows itself down: cool it, or let it rest, and measure again",
        )
    ]


def _agreement(plan: Plan, samples: RunSamples) -> Check:
    figures = {each.candidate_arm: each for each in samples.agreement}
    verdicts = {arm: judge(figures.get(arm)) for arm in range(1, len(plan.arms))}
    wrong = [arm for arm, agreement in verdicts.items() if not _agrees(agreement)]
    details = "; ".join(
        f"{plan.arms[arm].label} {agreement.verdict or agreement.detail}" for arm, agreement in verdicts.items()
    )
    return Check(
        name="agreement",
        passed=not wrong,
        detail=details if not wrong else "; ".join(f"{plan.arms[arm].label}: {verdicts[arm].detail}" for arm in wrong),
        advice="" if not wrong else "a cache that changes the output, or was not compared, has no speed to speak of",
    )


def _agrees(agreement: Agreement) -> bool:
    """Whether an arm does what it says: the same as the first, or that but for its own quantisation."""
    return agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING") or bool(agreement.differs_by)


def _rescored(plan: Plan, samples: RunSamples) -> Check:
    """Whether one pass over what each arm wrote gives the log-probabilities that its decode gave."""
    found = [judge_rescore(each) for each in samples.rescores]
    wrong = [each for each in found if (each.verdict is None and not each.differs_by) or each.verdict == "MISMATCH"]
    said = "; ".join(f"{plan.arms[each.arm].label} {each.verdict or each.differs_by}" for each in found)
    if wrong:
        said = "; ".join(f"{plan.arms[each.arm].label}: {each.detail}" for each in wrong)
    return Check(
        name="rescore",
        passed=not wrong,
        detail=said,
        advice="" if not wrong else "probability ratios between this decode and a pass over its text are not usable",
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
    source = "a quantised cache" if any(plan.arms[arm].is_lossy for arm in (interrupted, kept)) else "rounding"
    return Check(
        name="interruption",
        passed=bool(figures) and not wrong,
        detail=f"{names} wrote different tokens{'' if wrong or not figures else f', within what {source} does'}",
        advice="what is rebuilt after an interruption is not what was lost" if wrong or not figures else "",
    )


def failed(checks: Sequence[Check]) -> tuple[str, ...]:
    """One reason per failed check."""
    return tuple(f"{check.name}: {check.detail}" for check in checks if not check.passed)
