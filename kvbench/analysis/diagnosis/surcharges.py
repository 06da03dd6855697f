"""What an arm pays beside the work of its steps: new lengths, preparing, padding, logits for nobody, habits."""

from __future__ import annotations

from collections.abc import Mapping

from kvbench.analysis.diagnosis.pair import Citing, Pair, close, differing, of_arm, percent, two_digits
from kvbench.capabilities import ENGINES, HABITS, MODES, habits_of
from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.evidence import LengthProbe, Sentence
from kvbench.records.run_record import ArmRecord
from kvbench.records.untimed import is_cudnn_attention
from kvbench.text import decimals, fixed, scale

NOTEWORTHY = 1.5  # times a second visit
CHEAP = 1.25  # times its own second visit: an attention that pays nothing the first time
VISIBLE_LOGITS = 0.05  # of a step's arithmetic; less is not worth a sentence
VISIBLE_PADDING = 0.05  # of the tokens that a step needs
MAY_DIFFER = ("mode", "habit")  # where anything else does too, a habit is not all that differs
NOTABLE_MEMORY = 0.1  # of the baseline's peak


def first_visit(pair: Pair) -> Sentence | None:
    """What the arm's own attention pays at every new length, and which other was seen to avoid it."""
    paying = [arm for arm in reversed(pair.arms) if _pays(pair.record.arms[arm])]
    if not paying:
        return None
    cite, arm = pair.citing(), paying[0]
    paying = [each for each in paying if _alike(pair, arm, each)]
    times = {
        each: tuple(cite.value(of_arm(each, f"cold/probes/0/{visit}_itl_s")) for visit in ("first", "second"))
        for each in paying
    }
    text = (
        f"At a length not met before, {_extra(*times[arm])} that a step of {_whose(pair, times)} takes"
        f" {_cause(pair, cite, arm)}; a decode meets a new length at every step"
    )
    remedy = _cheaper(pair.record.arms[arm])
    if remedy is not None:
        place, probe = remedy
        first = cite(of_arm(arm, f"cold/probes/{place}/first_itl_s"), "s")
        text += f". attention={probe.attention} avoids it: {first} the first time"
    return cite.sentence("first_visit", f"{text}.")


def _alike(pair: Pair, one: int, other: int) -> bool:
    """Whether what is said of one arm's cause and remedy was seen at the other too."""
    remedies = (_cheaper(pair.record.arms[arm]) for arm in (one, other))
    attentions = [remedy and remedy[1].attention for remedy in remedies]
    causes = [_cause(pair, pair.citing(), arm) for arm in (one, other)]
    return causes[0] == causes[1] and attentions[0] == attentions[1]


def _whose(pair: Pair, times: Mapping[int, tuple[float, ...]]) -> str:
    """The arm whose figures are told; with the other one where it pays too."""
    arm, *others = times
    if not others:
        return pair.name(arm)
    if all(close(mine, theirs) for mine, theirs in zip(times[arm], times[others[0]], strict=True)):
        return "either"
    return f"{pair.name(arm)} ({pair.name(others[0])}: {_extra(*times[others[0]])})"


def _pays(arm: ArmRecord) -> bool:
    probes = _probes(arm)
    return bool(probes) and probes[0].first_itl_s >= NOTEWORTHY * probes[0].second_itl_s


def _probes(arm: ArmRecord) -> tuple[LengthProbe, ...]:
    return arm.cold.probes or ()


def _extra(first_s: float, second_s: float) -> str:
    """Such as `62.0 of the 74.0 ms`."""
    factor, unit = scale(first_s, "s")
    digits = decimals(first_s / factor)
    return f"{fixed((first_s - second_s) / factor, digits)} of the {fixed(first_s / factor, digits)}{unit}"


def _cheaper(arm: ArmRecord) -> tuple[int, LengthProbe] | None:
    """Another attention that took no longer at a new length than again, and less than this one."""
    probes = _probes(arm)
    for place, probe in enumerate(probes[1:], start=1):
        if probe.first_itl_s <= CHEAP * probe.second_itl_s and NOTEWORTHY * probe.first_itl_s <= probes[0].first_itl_s:
            return place, probe
    return None


def _cause(pair: Pair, cite: Citing, number: int) -> str:
    """As much as the evidence carries: the library by its kernel, building by another attention that does not pay."""
    arm = pair.record.arms[number]
    own = _probes(arm)[0]
    if (own.first_allocations or 0) - (own.second_allocations or 0) >= own.steps:  # fewer are not paid at every length
        return f"come with {cite(of_arm(number, 'cold/probes/0/first_allocations'), 'count')} allocations on the device"
    if _cheaper(arm) is None:
        return "are paid for that length alone"
    for place, kernel in enumerate(arm.limit.kernels):
        if is_cudnn_attention(kernel.name):
            cite.rest_on(of_arm(number, f"limit/kernels/{place}/name"))
            return "are cuDNN building a plan for it"
    return "are its attention building something for it"


def preparing(pair: Pair) -> Sentence | None:
    """What compiling or capturing took at the first visit, and after how many steps that is paid back."""
    prepared = [arm for arm in pair.arms if pair.record.arms[arm].cold.compile_s]
    if not prepared:
        return None
    cite = pair.citing()
    told = [f"{cite(of_arm(arm, 'cold/compile_s'), 's')} of the first visit of {pair.name(arm)}" for arm in prepared]
    words = {ENGINES[engine].preparation for arm in prepared if (engine := pair.record.arms[arm].engine) in ENGINES}
    word = words.pop() if len(words) == 1 else "preparing"
    text = f"{word.capitalize()} took {' and '.join(told)}, once for each shape"
    steps = _paid_back_after(pair, prepared)
    if steps is not None:
        cite.rest_on(*(of_arm(arm, "itl_s/value") for arm in pair.arms))
        other = next(arm for arm in pair.arms if arm not in prepared)
        text += f"; against {pair.name(other)} that is paid back after about {two_digits(steps)} steps"
    return cite.sentence("preparing", f"{text}.")


def _paid_back_after(pair: Pair, prepared: list[int]) -> float | None:
    """Steps after which the one arm that prepares has made up for it; None where none or both do, or it is slower."""
    if len(prepared) != 1:
        return None
    arm = pair.record.arms[prepared[0]]
    other = pair.record.arms[next(each for each in pair.arms if each != prepared[0])]
    saved_s = (other.itl_s.value or 0.0) - (arm.itl_s.value or 0.0)
    known = arm.itl_s.value is not None and arm.cold.compile_s is not None
    return (arm.cold.compile_s or 0.0) / saved_s if known and saved_s > 0 else None


def padding(pair: Pair) -> Sentence | None:
    """What buckets add to the tokens of a step without a past."""
    for arm in reversed(pair.arms):
        record = pair.record.arms[arm]
        if record.bucket is None or record.padding_share is None or record.padding_share < VISIBLE_PADDING:
            continue
        cite = pair.citing()
        share, bucket = cite(of_arm(arm, "padding_share"), percent), cite(of_arm(arm, "bucket"), "count")
        text = (
            f"Padding to multiples of {bucket} tokens adds {share} to what a step of {pair.name(arm)} submits: a"
            " smaller bucket adds less and prepares more shapes."
        )
        return cite.sentence("padding", text)
    return None


def all_logits(pair: Pair) -> Sentence | None:
    """Logits of every position, of which one is used: measured against an arm without them, else predicted."""
    for arm in pair.arms:
        record = pair.record.arms[arm]
        chosen = "all_logits" in _habits(record)
        built_in = bool((pair.record.model or {}).get("computes_all_logits"))
        if record.keeps_past or not (chosen or built_in) or _differ_in_habits(pair):
            continue
        cite = pair.citing()
        share = (_measured_share(pair, cite, arm) if chosen else None) or _predicted_share(pair, cite, arm)
        if share is not None:
            why = "" if chosen else ", since this architecture offers nothing else"
            drops = " and builds a cache that it drops" if "dropped_cache" in _habits(record) else ""
            text = f"The {pair.name(arm)} loop computes logits for every position{drops}{why}: {share}."
            return cite.sentence("all_logits", text)
    return None


def _habits(arm: ArmRecord) -> frozenset[str]:
    return habits_of(arm.mode, arm.habit)


def _differ_in_habits(pair: Pair) -> bool:
    """Whether the habits themselves are what is compared, which has a sentence of its own."""
    if pair.baseline.keeps_past != pair.candidate.keeps_past:
        return False
    return _habits(pair.baseline) != _habits(pair.candidate)


def _measured_share(pair: Pair, cite: Citing, arm: int) -> str | None:
    """By the run's comparison of this arm with the plain recompute loop, where that one is clearly faster."""
    wanted = {"all_logits", "dropped_cache"}
    if not _habits(pair.record.arms[arm]) <= wanted:
        return None
    for number, each in enumerate(pair.record.comparisons):
        if each.speedup.value is None or arm not in (each.baseline_arm, each.candidate_arm):
            continue
        other = each.candidate_arm if arm == each.baseline_arm else each.baseline_arm
        if not _plain(pair.record.arms[other], pair.record.arms[arm]):
            continue
        if each.verdict == ("FASTER" if other == each.candidate_arm else "SLOWER"):
            ratio = cite.value(f"/comparisons/{number}/speedup/value")
            gain = ratio if other == each.candidate_arm else 1 / ratio
            return f"{percent(1 - 1 / gain)} of its time"
    return None


def _plain(arm: ArmRecord, other: ArmRecord) -> bool:
    same = set(differing(arm, other)) <= set(MAY_DIFFER)
    return same and arm.mode == "nocache" and arm.habit == "none"


def _predicted_share(pair: Pair, cite: Citing, arm: int) -> str | None:
    limit, context = pair.record.arms[arm].limit, pair.mean_context
    if not limit.flops or not limit.head_flops or not context:
        return None
    share = limit.head_flops / limit.flops * (1 - 1 / context)
    if share < VISIBLE_LOGITS:
        return None
    cite.rest_on(of_arm(arm, "limit/head_flops"), of_arm(arm, "limit/flops"))
    return f"a predicted {percent(share)} of its arithmetic is for logits that nobody reads"


def habit(pair: Pair) -> Sentence | None:
    """Habits that only the candidate has: their share of its time, and of memory where it is notable."""
    mine, theirs = _habits(pair.candidate), _habits(pair.baseline)
    added = [name for name in HABITS if name in mine - theirs]
    alike = set(differing(pair.baseline, pair.candidate)) <= set(MAY_DIFFER)
    alike = alike and MODES[pair.baseline.mode].ours == MODES[pair.candidate.mode].ours
    speedup, verdict = pair.comparison.speedup, pair.comparison.verdict
    known = None not in (speedup.value, speedup.ci_low, speedup.ci_high)
    if not added or theirs - mine or not alike or not known or verdict not in ("SLOWER", "SAME"):
        return None
    cite = pair.citing()
    ratio, low, high = (cite.value(pair.at(f"speedup/{part}")) for part in ("value", "ci_low", "ci_high"))
    if verdict == "SLOWER":
        text = f"{_named(added)} {percent(1 - ratio)} of a step [{percent(1 - high)}, {percent(1 - low)}]"
    else:
        band = f"±{RELEVANT_WITHIN_A_RUN:.0%}".replace("%", " %")
        text = f"{_named(added)} nothing that shows: the whole interval lies within {band}"
    extra, peak = pair.comparison.extra_memory_bytes, pair.baseline.memory.peak_allocated_bytes
    if extra is not None and peak and extra > NOTABLE_MEMORY * peak:
        text += f", and {cite(pair.at('extra_memory_bytes'), 'bytes')} more at the peak of memory"
        cite.rest_on(of_arm(pair.arms[0], "memory/peak_allocated_bytes"))
    return cite.sentence("habit", f"{text}.")


def _named(added: list[str]) -> str:
    if len(added) == 1:
        return f"The habit {added[0]} ({HABITS[added[0]].summary}) takes"
    return f"The habits {', '.join(added[:-1])} and {added[-1]} together take"
