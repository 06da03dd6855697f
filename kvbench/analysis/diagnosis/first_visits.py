"""What a step costs at a context length that was not met before."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair, close, of_arm
from kvbench.capabilities import ENGINES
from kvbench.quantities import decimals, fixed, format_value, scale
from kvbench.records.evidence import LengthProbe, Sentence
from kvbench.records.schema import ArmRecord
from kvbench.records.untimed import is_cudnn_attention

NOTEWORTHY = 1.5  # times a second visit
CHEAP = 1.25  # times its own second visit: an attention that pays nothing the first time


def first_visit(pair: Pair) -> Sentence | None:
    """What the arm's own attention pays at every new length, and which other was seen to avoid it."""
    paying = [arm for arm in reversed(pair.arms) if _pays(pair.record.arms[arm])]
    if not paying:
        return None
    arm = paying[0]
    record = pair.record.arms[arm]
    paying = [each for each in paying if _alike(record, pair.record.arms[each])]
    own = _probes(record)[0]
    text = f"{_extra(own)} that a step of {_whose(pair, paying)} takes at a length not met before"
    cause, pointers = _cause(record, arm)
    text += f" {cause}; a real decode meets every length for the first time"
    evidence = [
        pointer
        for each in paying
        for pointer in of_arm(each, "cold/probes/0/first_itl_s", "cold/probes/0/second_itl_s")
    ] + list(pointers)
    remedy = _remedy(record)
    if remedy is not None:
        place, probe = remedy
        text += f". attention={probe.attention} avoids it: {format_value(probe.first_itl_s, 's')} the first time"
        evidence += of_arm(arm, f"cold/probes/{place}/first_itl_s")
    return Sentence(code="first_visit", text=f"{text}.", evidence=tuple(dict.fromkeys(evidence)))


def preparing(pair: Pair) -> Sentence | None:
    """What compiling or capturing took at the first visit, and after how many steps that is paid back."""
    prepared = [arm for arm in pair.arms if pair.record.arms[arm].cold.compile_s]
    if not prepared:
        return None
    told = [
        f"{format_value(pair.record.arms[arm].cold.compile_s, 's')} of the first visit of {pair.name(arm)}"
        for arm in prepared
    ]
    words = {ENGINES[engine].preparation for arm in prepared if (engine := pair.record.arms[arm].engine) in ENGINES}
    word = words.pop() if len(words) == 1 else "preparing"
    text = f"{word.capitalize()} took {' and '.join(told)}, once for each shape"
    evidence = [pointer for arm in prepared for pointer in of_arm(arm, "cold/compile_s")]
    steps = _paid_back_after(pair, prepared)
    if steps is not None:
        other = next(arm for arm in pair.arms if arm not in prepared)
        text += f"; against {pair.name(other)} that is paid back after about {fixed(float(f'{steps:.1e}'), 0)} steps"
        evidence += [pointer for arm in pair.arms for pointer in of_arm(arm, "itl_s/value")]
    return Sentence(code="preparing", text=f"{text}.", evidence=tuple(evidence))


def _paid_back_after(pair: Pair, prepared: list[int]) -> float | None:
    """Steps after which the one arm that prepares has made up for it; None where none or both do, or it is slower."""
    if len(prepared) != 1:
        return None
    arm = pair.record.arms[prepared[0]]
    other = pair.record.arms[next(each for each in pair.arms if each != prepared[0])]
    saved_s = (other.itl_s.value or 0.0) - (arm.itl_s.value or 0.0)
    known = arm.itl_s.value is not None and arm.cold.compile_s is not None
    return (arm.cold.compile_s or 0.0) / saved_s if known and saved_s > 0 else None


def _alike(one: ArmRecord, other: ArmRecord) -> bool:
    """Whether what is said of one arm's cause and remedy was seen at the other too."""
    attentions = [None if found is None else found[1].attention for found in map(_remedy, (one, other))]
    return _cause(one, 0)[0] == _cause(other, 0)[0] and attentions[0] == attentions[1]


def _whose(pair: Pair, paying: list[int]) -> str:
    """The arm whose figures are told; with the other one where it pays too."""
    if len(paying) == 1:
        return pair.name(paying[0])
    mine, theirs = (_probes(pair.record.arms[arm])[0] for arm in paying)
    if close(mine.first_itl_s, theirs.first_itl_s) and close(mine.second_itl_s, theirs.second_itl_s):
        return "either"
    return f"{pair.name(paying[0])} ({pair.name(paying[1])}: {_extra(theirs)})"


def _pays(arm: ArmRecord) -> bool:
    probes = _probes(arm)
    return bool(probes) and probes[0].first_itl_s >= NOTEWORTHY * probes[0].second_itl_s


def _probes(arm: ArmRecord) -> tuple[LengthProbe, ...]:
    return arm.cold.probes or ()


def _extra(probe: LengthProbe) -> str:
    """Such as `62.0 of the 74.0 ms`."""
    factor, unit = scale(probe.first_itl_s, "s")
    extra, whole = (probe.first_itl_s - probe.second_itl_s) / factor, probe.first_itl_s / factor
    digits = decimals(whole)
    return f"{fixed(extra, digits)} of the {fixed(whole, digits)}{unit}"


def _remedy(arm: ArmRecord) -> tuple[int, LengthProbe] | None:
    """Another attention that took no longer at a new length than again, and less than this one."""
    probes = _probes(arm)
    for place, probe in enumerate(probes[1:], start=1):
        if probe.first_itl_s <= CHEAP * probe.second_itl_s and NOTEWORTHY * probe.first_itl_s <= probes[0].first_itl_s:
            return place, probe
    return None


def _cause(arm: ArmRecord, number: int) -> tuple[str, tuple[str, ...]]:
    """As much as the evidence carries: the library by its kernel, building by another attention that does not pay."""
    own = _probes(arm)[0]
    if (own.first_allocations or 0) - (own.second_allocations or 0) >= own.steps:  # fewer are not paid at every length
        pointers = of_arm(number, "cold/probes/0/first_allocations")
        return f"come with {own.first_allocations:,} allocations on the device", pointers
    if _remedy(arm) is None:
        return "are paid for that length alone", ()
    for place, kernel in enumerate(arm.limit.kernels):
        if is_cudnn_attention(kernel.name):
            return "are cuDNN building a plan for it", of_arm(number, f"limit/kernels/{place}/name")
    return "are its attention building something for it", ()
