"""Whether the arms of a run write the same: one sentence where they do, else the first difference side by side."""

from __future__ import annotations

from dataclasses import dataclass

from kvbench.arm import arm_names
from kvbench.records.run_record import ArmRecord, Comparison, RunRecord
from kvbench.report.first_screen import output_sentences
from kvbench.report.rescored import rescore_details, rescore_sentences
from kvbench.report.sentences import explained, own_words, say
from kvbench.report.verdicts import pairs
from kvbench.text import UNKNOWN, printable

BEFORE = 120  # characters shown of what both wrote
AFTER = 240  # of what each wrote from there on


@dataclass(frozen=True)
class Side:
    """What one arm wrote: the end of what both wrote, and how it went on."""

    arm: str
    same: str
    other: str


@dataclass(frozen=True)
class Difference:
    """One arm whose output differs from the baseline's: why, and the place in the texts where it shows."""

    arm: str
    cause: str
    place: str
    sides: tuple[Side, ...]  # none where the texts are the same


@dataclass(frozen=True)
class Output:
    """What is said of the output of all arms."""

    sentences: tuple[str, ...]
    details: tuple[tuple[str, str], ...]  # arm and the sentence that its verdict rests on
    differences: tuple[Difference, ...]


def output(record: RunRecord) -> Output | None:
    """None for a run that compared nothing."""
    shown = pairs(record)
    if not shown and not record.rescores:
        return None
    return Output(
        sentences=(*output_sentences(shown), *_references(record), *rescore_sentences(record)),
        details=(
            *(
                (pair.candidate, explained("agreement", pair.agreement_detail))
                for pair in shown
                if pair.agreement != UNKNOWN
            ),
            *rescore_details(record),
        ),
        differences=tuple(
            _difference(record, each) for each in record.comparisons if each.agreement.verdict == "MISMATCH"
        ),
    )


def _references(record: RunRecord) -> tuple[str, ...]:
    """How far each arm is from the same model in a wider type."""
    names = arm_names(record.arms)
    return tuple(
        say(
            "output.reference",
            name=names[each.arm],
            dtype=each.dtype,
            rel=UNKNOWN if each.max_rel_logit_diff is None else f"{each.max_rel_logit_diff:.1e}",
            flips=each.argmax_flips,
            steps=each.steps,
        )
        for each in record.references
    )


def _difference(record: RunRecord, comparison: Comparison) -> Difference:
    names = arm_names(record.arms)
    baseline, candidate = record.arms[comparison.baseline_arm], record.arms[comparison.candidate_arm]
    cause = own_words(printable(comparison.agreement.cause or comparison.agreement.detail))
    prompt = _first_prompt(comparison, baseline, candidate)
    name = names[comparison.candidate_arm]
    if prompt is None:
        return Difference(name, say("output.cause", cause=cause), say("output.same-text"), ())
    one, other = baseline.texts[prompt], candidate.texts[prompt]
    at = next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    before = f"{'…' if at > BEFORE else ''}{one[max(0, at - BEFORE) : at]}"
    sides = tuple(
        Side(names[arm], before, text[at : at + AFTER] + ("…" if len(text) > at + AFTER else ""))
        for arm, text in ((comparison.baseline_arm, one), (comparison.candidate_arm, other))
    )
    place = say("output.first-difference", prompt=prompt + 1, characters=f"{at + 1:,}")
    return Difference(name, say("output.cause", cause=cause), place, sides)


def _first_prompt(comparison: Comparison, baseline: ArmRecord, candidate: ArmRecord) -> int | None:
    """The prompt whose texts decided the verdict, else the first with two texts; None where all are the same."""
    differing = [number for number, (a, b) in enumerate(zip(baseline.texts, candidate.texts, strict=False)) if a != b]
    decided = comparison.agreement.divergence_sequence
    return decided if decided in differing else next(iter(differing), None)
